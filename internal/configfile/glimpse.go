package configfile

import (
	"bytes"
	"os"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Glimpse reads single values of a file that Load does not take: of as much
// from its beginning as is YAML. Keys are paths as "control.socket"; what is
// not there, or no plain value, is missing in the result.
func Glimpse(path string, keys ...string) map[string]string {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	found := map[string]string{}
	for len(text) > 0 {
		root, err := document(text)
		if err == nil && root != nil && root.Kind == yaml.MappingNode {
			for _, key := range keys {
				if n := at(root, strings.Split(key, ".")); n != nil && n.Kind == yaml.ScalarNode {
					found[key] = n.Value
				}
			}
			return found
		}
		// The last line goes, until what is left can be read.
		text = text[:max(0, bytes.LastIndexByte(bytes.TrimRight(text, "\n"), '\n'))]
	}
	return found
}

// at follows a path through mappings; nil: it leads nowhere.
func at(n *yaml.Node, path []string) *yaml.Node {
	for _, name := range path {
		if n.Kind != yaml.MappingNode {
			return nil
		}
		var next *yaml.Node
		for i := 0; i+1 < len(n.Content); i += 2 {
			if n.Content[i].Value == name {
				next = n.Content[i+1]
			}
		}
		if next == nil {
			return nil
		}
		n = next
	}
	return n
}
