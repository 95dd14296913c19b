package agent

import (
	"embed"

	"github.com/certconnector/certconnector/internal/configfile"
)

// configSources are the files that declare Config: their comments describe
// the keys in the JSON Schema.
//
//go:embed config.go config_listener.go config_tenant.go config_proxy.go config_secret.go config_keys.go config_ca.go config_endpoint.go config_policy.go config_bridge.go config_principal.go config_jobs.go
var configSources embed.FS

// ConfigSchema returns the JSON Schema of the configuration file.
func ConfigSchema() ([]byte, error) {
	return configfile.Schema("certconnector configuration", Defaults(), configSources)
}
