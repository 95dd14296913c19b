package firstrun

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/certconnector/certconnector/internal/logging"
)

// Open reports whether options lack something that has no default, so that a
// person may be asked.
func (o Options) Open() bool {
	m := o.Microsoft
	return o.Policy == "" || o.Dir == "" && o.StateDir == "" ||
		o.Policy == PolicyIntune && (o.Tenant == "" || o.ClientID == "") ||
		o.CA == CAADCS && m.Config == "" || o.CA == CACertsrv && m.URL == "" ||
		(o.CA == CAADCS || o.CA == CACertsrv) && (m.Chain == "" || m.Template == "" || m.Principal == "" && m.User == "" && !m.SSPI)
}

// Summary is what was decided, as pairs of a name and a text, for a person to
// confirm. There is no secret in it.
func (p *Plan) Summary() [][2]string {
	o := p.o
	list := [][2]string{
		{"devices", p.made.SCEPURL},
		{"names", strings.Join(o.Hostnames, ", ")},
		{"listens at", o.Listen + map[bool]string{true: ", without TLS"}[o.PlainHTTP]},
	}
	switch {
	case o.CA == CAEmbedded:
		list = append(list, [2]string{"CA", fmt.Sprintf("embedded, %s: a new root that devices must trust", o.CAKey)})
	default:
		m := o.Microsoft
		list = append(list, [2]string{"CA", m.Config + m.URL},
			[2]string{"template", m.Template}, [2]string{"signs in as", cmp.Or(m.Principal+m.User, "the account of the service")})
	}
	if o.Policy == PolicyIntune {
		list = append(list, [2]string{"policy", "Intune, tenant " + o.Tenant + ", application " + o.ClientID + ", cloud " + o.Cloud})
	} else {
		list = append(list, [2]string{"policy", "one shared challenge, for a laboratory"})
	}
	list = append(list, [2]string{"files in", o.StateDir})
	if o.Dir != o.StateDir {
		list = append(list, [2]string{"and", p.path(ConfigFile)})
	}
	if p.owner != nil {
		list = append(list, [2]string{"owned by", p.owner.name})
	}
	return list
}

// printable makes a text fit for a terminal.
func printable(s string) string { return logging.Printable(s) }
