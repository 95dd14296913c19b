package agent

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/certconnector/certconnector/internal/secret"
)

// SecretRef says where a secret is. A secret itself never stands in the
// configuration file.
type SecretRef struct {
	// File that holds the secret; one trailing line break is not part of it.
	// Only the service's account should be able to read it.
	File string `yaml:"file" path:"true"`
	// Environment variable that holds the secret. Other processes of the same
	// account can read it: prefer a file.
	Env string `yaml:"env"`
}

// place says where the secret is, for people.
func (r SecretRef) place() string {
	if r.File != "" {
		return r.File
	}
	return "environment variable " + r.Env
}

// Read fetches the secret. An empty one is an error.
func (r SecretRef) Read() (secret.Text, error) {
	text := os.Getenv(r.Env)
	from := "environment variable " + r.Env
	if r.File != "" {
		from = fmt.Sprintf("file %q", r.File)
		if err := secret.CheckPrivate(r.File); err != nil {
			return "", err
		}
		b, err := os.ReadFile(r.File)
		if err != nil {
			return "", fmt.Errorf("reading a secret: %w", err)
		}
		text = strings.TrimSuffix(strings.TrimSuffix(string(b), "\n"), "\r")
	} else if r.Env == "" {
		return "", errors.New("secret has neither file nor env")
	}
	if text == "" {
		return "", fmt.Errorf("secret in %s is empty", from)
	}
	return secret.Text(text), nil
}
