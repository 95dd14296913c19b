// Package cloud runs the simulated cloud of intune/intunetest, and beside it
// the simulated queue of issuance jobs of agent/jobs/jobqueuetest, as a process
// of its own, and talks to one that runs elsewhere on this machine. As its own
// process it can be stalled, broken and killed while a connector works with
// it, as the real one may be. The queue speaks this project's own interface;
// nothing of it is Microsoft's.
package cloud

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
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
	TokenLife     time.Duration // 0: 3599 s
	KeyDelay      time.Duration // how long a key that was added is not taken at sign-in yet

	Revocation intunetest.RevocationOptions // the zero value has no cool-down

	Queue QueueOptions // of issuance jobs
}

// Info says where the cloud is, and the queue.
type Info struct {
	intunetest.Info
	Queue QueueInfo `json:"queue"`
}

// Serve runs a cloud until ctx ends. ready is called once it listens and its
// files are written; it may be nil.
func Serve(ctx context.Context, o Options, ready func(Info)) (err error) {
	for _, a := range append([]string{o.Queue.Address, o.Queue.ControlAddress}, o.Addresses...) {
		if err := onLoopback(a); err != nil {
			return err
		}
	}
	c, err := intunetest.New(intunetest.Options{
		Tenants: []intunetest.Tenant{o.tenant()}, Strict: o.Strict, ChallengeLife: o.ChallengeLife, TokenLife: o.TokenLife,
		KeyDelay: o.KeyDelay, Revocation: o.Revocation, StateFile: o.StateFile,
	})
	if err != nil {
		return fmt.Errorf("making the cloud: %w", err)
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	if err := c.Start(o.Addresses...); err != nil {
		return fmt.Errorf("starting the cloud: %w", err)
	}
	q, err := startQueue(o.Queue)
	if err != nil {
		return fmt.Errorf("starting the queue of jobs: %w", err)
	}
	defer func() { err = errors.Join(err, q.close()) }()
	info := Info{Info: c.Info(), Queue: q.info}
	if err := o.write(c, info); err != nil {
		return err
	}
	if ready != nil {
		ready(info)
	}
	return o.trust(ctx, c, q, info)
}

// trust has the app registration and the queue accept the certificates of
// their files until ctx ends.
func (o Options) trust(ctx context.Context, c *intunetest.Cloud, q *queue, info Info) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 2)
	go func() {
		ended <- watch(ctx, o.Certificate, func(certs []*x509.Certificate) error {
			if err := c.SetCertificates(info.Tenant, info.ClientID, certs...); err != nil {
				return fmt.Errorf("registering the certificate: %w", err)
			}
			if o.Trusted != nil {
				o.Trusted()
			}
			return nil
		})
	}()
	go func() {
		ended <- watch(ctx, o.Queue.Certificate, func(certs []*x509.Certificate) error {
			q.serveOnly(certs)
			return nil
		})
	}()
	first := <-ended
	stop()
	return errors.Join(first, <-ended)
}

// watch hands over the certificates of a PEM file as soon as it is there, and
// again whenever it changes, until ctx ends: the connector makes the
// certificate, and needs the cloud's addresses to begin with.
func watch(ctx context.Context, path string, take func([]*x509.Certificate) error) error {
	if path == "" {
		<-ctx.Done()
		return nil
	}
	var last []byte
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for {
		b, err := os.ReadFile(path)
		if err == nil && !bytes.Equal(b, last) {
			certs, err := certificates(b)
			if err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
			if len(certs) > 0 { // else it is being written
				if err := take(certs); err != nil {
					return err
				}
				last = b
			}
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func certificates(text []byte) (list []*x509.Certificate, err error) {
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		list = append(list, cert)
	}
	return list, nil
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

func (o Options) write(c *intunetest.Cloud, info Info) error {
	if o.RootFile != "" {
		if err := replace(o.RootFile, c.RootPEM()); err != nil {
			return err
		}
	}
	if o.Queue.RootFile != "" {
		if err := replace(o.Queue.RootFile, []byte(info.Queue.RootPEM)); err != nil {
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
