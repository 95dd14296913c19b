// Package cloud runs the simulated cloud of intune/intunetest as a process of
// its own, and talks to one that runs elsewhere on this machine. As its own
// process it can be stalled, broken and killed while a connector works with
// it, as the real one may be.
package cloud

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/certconnector/certconnector/internal/secret"
	"github.com/certconnector/certconnector/intune/intunetest"
)

// Options say what cloud to run.
type Options struct {
	// Addresses for sign-in, Graph, the scale unit and the control API, in
	// this order, loopback only. Those left out are free ports of 127.0.0.1.
	Addresses []string

	StateFile string // gets every accepted notification, synced; "": none
	RootFile  string // gets the certificate of the cloud's CA, PEM; "": none
	InfoFile  string // gets where the cloud is, JSON; "": none. Written last, in one piece

	Tenant      string      // "": Contoso's
	ClientID    string      // of the app registration; "": Contoso's
	Secret      secret.Text // "": Contoso's, unless there is a certificate
	Certificate string      // PEM file that the app registration trusts; "": none. May appear later

	// Trusted is called when the app registration has taken the certificate,
	// and after each change of it. It may be nil.
	Trusted func()

	Strict        bool          // refuse what the real service is not known to refuse
	ChallengeLife time.Duration // 0: 60 minutes
}

// Serve runs a cloud until ctx ends. ready is called once it listens and its
// files are written; it may be nil.
func Serve(ctx context.Context, o Options, ready func(intunetest.Info)) (err error) {
	for _, a := range o.Addresses {
		if err := onLoopback(a); err != nil {
			return err
		}
	}
	c, err := intunetest.New(intunetest.Options{
		Tenants: []intunetest.Tenant{o.tenant()}, Strict: o.Strict, ChallengeLife: o.ChallengeLife, StateFile: o.StateFile,
	})
	if err != nil {
		return fmt.Errorf("making the cloud: %w", err)
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	if err := c.Start(o.Addresses...); err != nil {
		return fmt.Errorf("starting the cloud: %w", err)
	}
	info := c.Info()
	if err := o.write(c, info); err != nil {
		return err
	}
	if ready != nil {
		ready(info)
	}
	return o.trust(ctx, c, info)
}

// trust has the app registration accept the certificate as soon as its file is
// there, and again whenever the file changes: the connector makes the
// certificate, and needs the cloud's addresses to begin with.
func (o Options) trust(ctx context.Context, c *intunetest.Cloud, info intunetest.Info) error {
	if o.Certificate == "" {
		<-ctx.Done()
		return nil
	}
	var last []byte
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for {
		b, err := os.ReadFile(o.Certificate)
		if block, _ := pem.Decode(b); err == nil && block != nil && !slices.Equal(b, last) {
			cert, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return fmt.Errorf("%s: %w", o.Certificate, err)
			}
			if err := c.SetCertificates(info.Tenant, info.ClientID, cert); err != nil {
				return fmt.Errorf("registering the certificate: %w", err)
			}
			last = b
			if o.Trusted != nil {
				o.Trusted()
			}
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func (o Options) tenant() intunetest.Tenant {
	t := withLinux(intunetest.Contoso())
	app := &t.Apps[0]
	if o.Tenant != "" {
		t.ID = o.Tenant
	}
	if o.ClientID != "" {
		app.ClientID = o.ClientID
	}
	switch {
	case o.Secret != "":
		app.Secrets = []secret.Text{o.Secret}
	case o.Certificate != "":
		app.Secrets = nil
	}
	return t
}

// withLinux adds what Intune itself does not have: a SCEP profile and a device
// for Linux, so that every platform of the laboratory can ask for a challenge.
func withLinux(t intunetest.Tenant) intunetest.Tenant {
	p, d := t.Profiles[0], t.Devices[0]
	p.Name, p.Platform = "linux-device", "linux"
	d.ID, d.Platform, d.SerialNumber, d.IMEI = "de71ce00-0000-4000-8000-000000000005", "linux", "SN000005", ""
	d.User, d.Email, d.UserID = "user5@contoso.example", "user5@contoso.example", "05e70000-0000-4000-8000-000000000005"
	d.SID = "S-1-5-21-1111111111-2222222222-3333333333-1105"
	t.Profiles, t.Devices = append(t.Profiles, p), append(t.Devices, d)
	return t
}

func (o Options) write(c *intunetest.Cloud, info intunetest.Info) error {
	if o.RootFile != "" {
		if err := replace(o.RootFile, c.RootPEM()); err != nil {
			return err
		}
	}
	if o.InfoFile == "" {
		return nil
	}
	b, err := json.MarshalIndent(info, "", "  ")
	if err != nil {
		return fmt.Errorf("writing where the cloud is: %w", err)
	}
	return replace(o.InfoFile, append(b, '\n'))
}

// replace writes a file in one piece: who waits for it never reads half of it.
func replace(path string, content []byte) error {
	part := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".part")
	if err := os.WriteFile(part, content, 0o600); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	if err := os.Rename(part, path); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return nil
}

func onLoopback(address string) error {
	if address == "" {
		return nil
	}
	host, _, err := net.SplitHostPort(address)
	if ip := net.ParseIP(host); err != nil || ip == nil || !ip.IsLoopback() {
		return fmt.Errorf("%q is not host:port on the loopback interface, as 127.0.0.1:0", address)
	}
	return nil
}
