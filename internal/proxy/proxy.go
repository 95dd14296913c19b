// Package proxy reaches neighbours through an HTTP proxy: by CONNECT (RFC 9110,
// section 9.3.6), with Basic authentication where the proxy wants it. It works
// below TLS, as a way to dial: the proxy sees the neighbour's name and no more,
// roots and client certificates for the neighbour are never shown to the proxy,
// and whatever the proxy refuses is an Error that says so.
package proxy

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"time"
	"unicode"

	"github.com/certconnector/certconnector/internal/secret"
)

// Config is a proxy and what it is used for. The zero value is no proxy.
type Config struct {
	URL      string // http://proxy.corp.example:8080, or https:// to speak TLS with the proxy; "": none
	User     string // "": no authentication
	Password secret.Text

	RootCAs *x509.CertPool // vouch for a proxy that is spoken to by TLS; nil: the system's

	// NoProxy are hosts that are reached directly, as in NO_PROXY: a name stands
	// for itself and all names below it, .name for those below it only;
	// addresses and networks (10.0.0.0/8) for hosts that are given by address;
	// :port after any of them for one port; * for every host. See CheckNoProxy.
	NoProxy []string

	// Timeout is for what the proxy does until the tunnel stands, 0: 15 s.
	Timeout time.Duration
}

// Dial opens connections as net.Dialer.DialContext does.
type Dial func(ctx context.Context, network, address string) (net.Conn, error)

// Check says what is wrong with a Config. Nothing of it is quoted: a password
// may stand where it should not.
func (c Config) Check() error {
	if c.URL == "" {
		if c.User != "" || c.Password != "" {
			return errors.New("a proxy user is given, but no proxy URL")
		}
		return nil
	}
	u, err := url.Parse(c.URL)
	switch {
	case err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https":
		return errors.New("the proxy URL is not an http or https URL of a host, such as http://proxy.corp.example:8080")
	case u.User != nil:
		return errors.New("the proxy URL contains a user: give user and password in their own fields")
	case strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "":
		return errors.New("the proxy URL has a path or a query: write the address alone, such as http://proxy.corp.example:8080")
	case c.User == "" && c.Password != "":
		return errors.New("a proxy password is given, but no proxy user")
	case strings.Contains(c.User, ":"):
		return errors.New("the proxy user has a colon, which Basic authentication cannot send (RFC 7617, section 2)")
	}
	return nil
}

// Environment is the proxy that the environment names for https neighbours:
// HTTPS_PROXY, and NO_PROXY, in either case of letters. As everywhere in Go,
// this machine is reached directly. A user and a password may stand in
// HTTPS_PROXY; they are never quoted.
func Environment() (Config, error) {
	address := lookup("HTTPS_PROXY")
	if address == "" {
		return Config{}, nil
	}
	if !strings.Contains(address, "://") {
		address = "http://" + address
	}
	u, err := url.Parse(address)
	if err != nil {
		return Config{}, errors.New("HTTPS_PROXY in the environment is no URL")
	}
	c := Config{NoProxy: append(EnvironmentNoProxy(), "localhost", "127.0.0.0/8", "::1")}
	if u.User != nil {
		password, _ := u.User.Password()
		c.User, c.Password = u.User.Username(), secret.Text(password)
	}
	c.URL = (&url.URL{Scheme: u.Scheme, Host: u.Host}).String()
	if err := c.Check(); err != nil {
		return Config{}, errors.New("HTTPS_PROXY in the environment: " + err.Error())
	}
	return c, nil
}

// EnvironmentNoProxy are the hosts that NO_PROXY in the environment names.
func EnvironmentNoProxy() []string {
	return strings.FieldsFunc(lookup("NO_PROXY"), func(r rune) bool { return r == ',' || unicode.IsSpace(r) })
}

// CheckNoProxy says what is wrong with one entry of NoProxy, which would stand
// for no host.
func CheckNoProxy(entry string) error {
	switch {
	case strings.Trim(entry, ".") == "":
		return errors.New("names no host")
	case strings.ContainsFunc(entry, func(r rune) bool { return r == ',' || unicode.IsSpace(r) }):
		return fmt.Errorf("%q has a blank or a comma; write each host as an item of its own", entry)
	}
	return nil
}

func lookup(name string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return os.Getenv(strings.ToLower(name))
}

// direct reports whether a host is reached without the proxy.
func (c Config) direct(address string) bool {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	for _, entry := range c.NoProxy {
		if exempts(strings.ToLower(entry), host, port) {
			return true
		}
	}
	return false
}

// exempts reports whether one entry of NoProxy covers a host.
func exempts(entry, host, port string) bool {
	if entry = strings.TrimSpace(entry); entry == "*" {
		return true
	}
	entry = strings.TrimSuffix(entry, ".") // of a name that is complete
	ip, _ := netip.ParseAddr(host)
	if network, err := netip.ParsePrefix(entry); err == nil {
		return ip.IsValid() && network.Contains(ip.Unmap())
	}
	if one, err := netip.ParseAddr(strings.Trim(entry, "[]")); err == nil {
		return ip.IsValid() && ip.Unmap() == one.Unmap()
	}
	if name, only, err := net.SplitHostPort(entry); err == nil {
		return only == port && name != "" && exempts(name, host, port)
	}
	if below, ok := strings.CutPrefix(strings.TrimPrefix(entry, "*"), "."); ok {
		return below != "" && strings.HasSuffix(host, "."+below)
	}
	return entry != "" && (host == entry || strings.HasSuffix(host, "."+entry))
}
