package demo

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/certconnector/certconnector/cmd/certlab/cloud"
	"github.com/certconnector/certconnector/cmd/certlab/device"
	"github.com/certconnector/certconnector/cmd/certlab/loopback"
	"github.com/certconnector/certconnector/installer/firstrun"
)

// build finds the programs and the folder.
func build(o *Options, s *show) (*world, error) {
	var err error
	if o.Lab == "" {
		if o.Lab, err = os.Executable(); err != nil {
			return nil, fmt.Errorf("finding certlab: %w", err)
		}
	}
	if o.Program, err = FindProgram(o.Program, o.Lab); err != nil {
		return nil, err
	}
	if o.Dir == "" {
		if o.Dir, err = os.MkdirTemp("", "certlab-"); err != nil {
			return nil, fmt.Errorf("making a folder: %w", err)
		}
	}
	if o.Dir, err = filepath.Abs(o.Dir); err != nil {
		return nil, fmt.Errorf("--dir: %w", err)
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("--dir: %w", err)
	}
	if found, err := os.ReadDir(o.Dir); err != nil || len(found) > 0 {
		return nil, fmt.Errorf("--dir %s is not empty; nothing in it was changed, name a new folder", o.Dir)
	}
	if socket := filepath.Join(o.Dir, connectorFolder, "control.sock"); len(socket) > maxSocket {
		return nil, fmt.Errorf("--dir %s is too long for a control socket in it (%d bytes, systems allow %d): name a shorter one", o.Dir, len(socket), maxSocket)
	}
	return &world{Options: o, show: s, held: map[string]*device.Holding{}}, nil
}

// FindProgram finds the certconnector to run: the named one, else the one beside
// certlab, else the one in the PATH.
func FindProgram(named, lab string) (string, error) {
	if named == "" {
		beside := filepath.Join(filepath.Dir(lab), "certconnector"+filepath.Ext(lab))
		if _, err := os.Stat(beside); err == nil {
			return beside, nil
		}
		named = "certconnector"
	}
	path, err := exec.LookPath(named)
	if err != nil {
		return "", fmt.Errorf("finding certconnector: %w; name it with --program", err)
	}
	return filepath.Abs(path)
}

// start starts the cloud, sets the connector up as an operator does, and
// starts it.
func (w *world) start(ctx context.Context) error {
	w.show.say("folder: %s\n", w.Dir)
	began := time.Now()
	entra := filepath.Join(w.path(connectorFolder), firstrun.EntraFolder, "entra.crt.pem")
	var err error
	w.cloudChild, err = start("cloud", w.path("cloud.log"), w.Lab, "cloud", "--info-file", w.path("cloud.json"),
		"--root-file", w.path("cloud-root.pem"), "--state-file", w.path("notifications.jsonl"),
		"--client-certificate", entra, "--strict")
	if err != nil {
		return err
	}
	if err := w.cloudChild.until(ctx, 20*time.Second, w.readInfo); err != nil {
		return err
	}
	if w.cloud, err = cloud.Dial(w.info.Control); err != nil {
		return err
	}
	w.show.say("cloud:  process %d, control API %s (%.2fs)\n", w.cloudChild.pid(), w.info.Control, time.Since(began).Seconds())
	began = time.Now()
	if err := w.initConnector(ctx); err != nil {
		return err
	}
	w.show.say("init:   certconnector init made keys, CA and configuration (%.2fs)\n", time.Since(began).Seconds())
	took, err := w.startConnector(ctx)
	if err != nil {
		return err
	}
	w.show.say("run:    certconnector is process %d, answers at %s (%.2fs)\n", w.connector.pid(), w.made.SCEPURL, took.Seconds())
	return nil
}

func (w *world) readInfo() error {
	b, err := os.ReadFile(w.path("cloud.json"))
	if err != nil {
		return err
	}
	return json.Unmarshal(b, &w.info)
}

// initConnector runs "certconnector init" and shortens the patience of the
// configuration, which is otherwise what an operator gets.
func (w *world) initConnector(ctx context.Context) error {
	address, err := freeAddress()
	if err != nil {
		return err
	}
	out, err := w.run(ctx, "init", "--json", "--dir", w.path(connectorFolder), "--hostname", "127.0.0.1", "--listen", address,
		"--policy", "intune", "--cloud", "custom", "--tenant", w.info.Tenant, "--client-id", w.info.ClientID,
		"--authority-url", w.info.Authority, "--graph-url", w.info.Graph, "--resource-url", w.info.Resource,
		"--cloud-ca-file", w.path("cloud-root.pem"))
	if err != nil {
		return err
	}
	if err := json.Unmarshal(out, &w.made); err != nil {
		return fmt.Errorf("reading what certconnector init made: %w", err)
	}
	if err := w.configure(); err != nil {
		return err
	}
	_, err = w.run(ctx, "validate")
	if e, ok := errors.AsType[*exec.ExitError](err); err != nil && (!ok || e.ExitCode() != 1) { // 1: warned that the cloud is not Microsoft's
		return err
	}
	root, err := os.ReadFile(w.made.RootCertificate)
	if err != nil {
		return fmt.Errorf("reading the root certificate: %w", err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(root)
	w.http = &http.Client{Timeout: time.Minute, Transport: loopback.Transport(&tls.Config{RootCAs: roots}, 16)}
	return nil
}

// configure lets devices wait a second only, and adds an endpoint that keeps
// certificates for seconds only.
func (w *world) configure() error {
	b, err := os.ReadFile(w.made.ConfigFile)
	if err != nil {
		return fmt.Errorf("reading the configuration: %w", err)
	}
	const first, next = "endpoints:\n  - name: devices\n", "\njournal:"
	if text := string(b); strings.Count(text, first) != 1 || strings.Count(text, next) != 1 {
		return fmt.Errorf("%s has another form than this certlab knows: are certlab and certconnector of one version?", w.made.ConfigFile)
	}
	text := strings.Replace(string(b), first, first+"    answer_within: 1s\n", 1)
	text = strings.Replace(text, next, fmt.Sprintf(`
  - name: impatient
    path: %s
    ca: %s
    templates: {general: device}
    policy: {intune: {tenant: intune}}
    answer_within: 1s
    withhold_for: %s
    ra:
      signing: {certificate: ra/signing.crt.pem, key: ra/signing.key.pem}
      encryption: {certificate: ra/encryption.crt.pem, key: ra/encryption.key.pem}
`, impatientPath, firstrun.CAName, withholdFor)+next, 1)
	if err := os.WriteFile(w.made.ConfigFile, []byte(text), 0o600); err != nil {
		return fmt.Errorf("writing the configuration: %w", err)
	}
	return nil
}

// freeAddress is a loopback address that nobody listens on at this moment.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("looking for a free port: %w", err)
	}
	defer l.Close()
	return l.Addr().String(), nil
}
