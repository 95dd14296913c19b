package scephttp

import "strings"

// claim returns the lower-case path under which an endpoint is found. NDES
// answers in the whole folder of mscep.dll: Microsoft's validator asks
// /certsrv/mscep for the body after it tested the URL with mscep.dll.
func claim(path string) string {
	path = strings.TrimRight(squeeze(strings.ToLower(path)), "/")
	return strings.TrimSuffix(path, "/mscep.dll")
}

// find returns the endpoint with the longest claim on a path, nil for none.
// Letter case does not matter, IIS does not care either.
func (h *Handler) find(path string) *Endpoint {
	if !clean(path) {
		return nil
	}
	path = strings.TrimRight(squeeze(strings.ToLower(path)), "/")
	for {
		if e, ok := h.endpoints[path]; ok {
			return e
		}
		i := strings.LastIndexByte(path, '/')
		if i < 0 {
			return nil
		}
		path = path[:i]
	}
}

// clean refuses paths with dot segments: a proxy in front may have judged
// another path than the one they lead to.
func clean(path string) bool {
	for segment := range strings.SplitSeq(path, "/") {
		if segment == "." || segment == ".." {
			return false
		}
	}
	return true
}

// squeeze makes one slash of several.
func squeeze(path string) string {
	for strings.Contains(path, "//") {
		path = strings.ReplaceAll(path, "//", "/")
	}
	return path
}
