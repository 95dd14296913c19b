// Package linux holds what an installation on Linux consists of: the units,
// the account and the folders. The packages install these files as they are;
// "certconnector service install" writes them with the paths of its host.
package linux

import (
	_ "embed" // the units
	"errors"
	"fmt"
	"net/netip"
	"path"
	"strconv"
	"strings"
)

// Names of the units and of the service's account.
const (
	ServiceUnit = "certconnector.service"
	SocketUnit  = "certconnector.socket"
	Account     = "certconnector"
)

// What the packages install.
const (
	Program  = "/usr/bin/certconnector"
	Config   = "/etc/certconnector/certconnector.yaml"
	StateDir = "/var/lib/certconnector"

	packagedPort = "443"
)

var (
	//go:embed certconnector.service
	service string
	//go:embed certconnector.socket
	socket string
)

// Paths are where things are on a host. They are absolute.
type Paths struct {
	Program  string
	Config   string
	StateDir string
	Ports    []string // that systemd opens for the service: "443" on every address, or "192.0.2.1:443"
}

// Check refuses paths and ports that a unit would read as something else, and
// paths that the unit hides from the service.
func (p Paths) Check() error {
	var errs []error
	for _, f := range []struct{ what, path string }{{"the program", p.Program}, {"the configuration", p.Config}, {"the state folder", p.StateDir}} {
		if !path.IsAbs(f.path) || strings.ContainsFunc(f.path, strange) {
			errs = append(errs, fmt.Errorf("%s is at %q: a unit needs an absolute path of letters, digits and . _ - + @ /", f.what, f.path))
		}
		for _, hidden := range []string{"/home/", "/root/", "/tmp/", "/var/tmp/", "/run/user/"} {
			if strings.HasPrefix(f.path, hidden) {
				errs = append(errs, fmt.Errorf("%s is at %q, and %s is hidden from the service: put it elsewhere, a program into /usr/local/bin", f.what, f.path, hidden))
			}
		}
	}
	for _, port := range p.Ports {
		if _, err := host(port); err != nil {
			errs = append(errs, fmt.Errorf("systemd is to open %q for the service, and takes addresses alone: have listeners[].address name an IP address without a zone, or none, or a port above 1023", port))
		}
	}
	return errors.Join(errs...)
}

// host is the address that a port is opened on. The zero value: on every one.
func host(port string) (netip.Addr, error) {
	if _, err := strconv.ParseUint(port, 10, 16); err == nil {
		return netip.Addr{}, nil
	}
	at, err := netip.ParseAddrPort(port)
	if err == nil && at.Addr().Zone() != "" {
		err = errors.New("an address with a zone")
	}
	return at.Addr(), err
}

func strange(r rune) bool {
	return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-+@/", r)
}

// Service is the text of the service's unit. For the packages' paths it is the
// packages' text.
func (p Paths) Service() string {
	text := strings.NewReplacer(
		Program+" ", p.Program+" ",
		Config, p.Config,
		path.Dir(Config)+"/environment", path.Dir(p.Config)+"/environment",
	).Replace(service)
	if path.Dir(p.Config) != path.Dir(Config) {
		text = without(text, "ConfigurationDirectory=", "ConfigurationDirectoryMode=")
	}
	if p.StateDir != StateDir {
		text = strings.Replace(text, "StateDirectory="+path.Base(StateDir)+"\n", "ReadWritePaths="+p.StateDir+"\n", 1)
		text = without(text, "StateDirectoryMode=")
	}
	return text
}

// without leaves out the lines that begin so.
func without(text string, prefixes ...string) string {
	var b strings.Builder
lines:
	for line := range strings.Lines(text) {
		for _, p := range prefixes {
			if strings.HasPrefix(line, p) {
				continue lines
			}
		}
		b.WriteString(line)
	}
	return b.String()
}

// Socket is the text of the socket's unit.
func (p Paths) Socket() string {
	listen, free := "", ""
	for _, port := range p.Ports {
		listen += "ListenStream=" + port + "\n"
		if at, err := host(port); err == nil && at.IsValid() && !at.IsUnspecified() && !at.IsLoopback() {
			free = "FreeBind=yes\n" // the unit starts before the network
		}
	}
	text := strings.Replace(socket, "port "+packagedPort+" for", "port "+strings.Join(p.Ports, " and ")+" for", 1)
	text = strings.Replace(text, "ListenStream="+packagedPort+"\n", listen+free, 1)
	return strings.ReplaceAll(text, Config, p.Config)
}
