package intunetest

import (
	"crypto/x509"
	"fmt"
	"slices"

	"github.com/certconnector/certconnector/internal/secret"
)

// change finds an application and changes it under the lock.
func (c *Cloud) change(tenantName, clientID string, do func(*App)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.find(tenantName)
	if t == nil {
		return fmt.Errorf("there is no tenant %q", tenantName)
	}
	a := t.app(clientID)
	if a == nil {
		return fmt.Errorf("tenant %q has no application %q", tenantName, clientID)
	}
	do(a)
	return nil
}

// SetRoles replaces the roles of an application. Tokens that were issued
// before keep theirs, as real ones do.
func (c *Cloud) SetRoles(tenantName, clientID string, roles ...string) error {
	return c.change(tenantName, clientID, func(a *App) { a.Roles = slices.Clone(roles) })
}

// SetCertificates replaces the certificates of an application, which count at
// once.
func (c *Cloud) SetCertificates(tenantName, clientID string, certs ...*x509.Certificate) error {
	return c.change(tenantName, clientID, func(a *App) { a.setKeys(certs) })
}

// SetSecrets replaces the client secrets of an application.
func (c *Cloud) SetSecrets(tenantName, clientID string, secrets ...secret.Text) error {
	return c.change(tenantName, clientID, func(a *App) { a.Secrets = slices.Clone(secrets) })
}

// AddProfile adds a profile to a tenant, or replaces the one of that name.
func (c *Cloud) AddProfile(tenantName string, p Profile) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.find(tenantName)
	if t == nil {
		return fmt.Errorf("there is no tenant %q", tenantName)
	}
	t.Profiles = slices.DeleteFunc(t.Profiles, func(o Profile) bool { return o.Name == p.Name })
	t.Profiles = append(t.Profiles, p)
	return nil
}

// AddDevice adds a device to a tenant, or replaces the one of that ID.
func (c *Cloud) AddDevice(tenantName string, d Device) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.find(tenantName)
	if t == nil {
		return fmt.Errorf("there is no tenant %q", tenantName)
	}
	t.Devices = slices.DeleteFunc(t.Devices, func(o Device) bool { return o.ID == d.ID })
	t.Devices = append(t.Devices, d)
	return nil
}

// Target assigns a profile to a device, or takes the assignment away, which
// is found out when the device asks for a certificate.
func (c *Cloud) Target(tenantName, profile, device string, targeted bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.find(tenantName)
	if t == nil {
		return fmt.Errorf("there is no tenant %q", tenantName)
	}
	t.released[target{profile, device}] = !targeted
	return nil
}
