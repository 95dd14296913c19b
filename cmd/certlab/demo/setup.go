package demo

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/certconnector/certconnector/cmd/certlab/cloud"
	"github.com/certconnector/certconnector/cmd/certlab/device"
	"github.com/certconnector/certconnector/cmd/certlab/loopback"
	"github.com/certconnector/certconnector/installer/firstrun"
	"github.com/certconnector/certconnector/internal/freeport"
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

// start starts the cloud and the Microsoft CA, sets the connector up as an
// operator does, and starts it.
func (w *world) start(ctx context.Context) error {
	w.show.say("folder: %s\n", w.Dir)
	if err := w.makeKeys(); err != nil {
		return err
	}
	if err := w.startCloud(ctx); err != nil {
		return err
	}
	if err := w.startCorp(ctx); err != nil {
		return err
	}
	began := time.Now()
	if err := w.initConnector(ctx); err != nil {
		return err
	}
	w.show.say("init:   certconnector init made keys, CA and configuration, entra create and ra enroll the rest (%.2fs)\n", time.Since(began).Seconds())
	took, err := w.startConnector(ctx)
	if err != nil {
		return err
	}
	w.show.say("run:    certconnector is process %d, answers at %s (%.2fs)\n", w.connector.pid(), w.made.SCEPURL, took.Seconds())
	return nil
}

// startCloud starts the cloud, which trusts what "entra create" makes.
func (w *world) startCloud(ctx context.Context) error {
	began := time.Now()
	entra := filepath.Join(w.path(connectorFolder), firstrun.EntraFolder, tenantName, "0001.pem")
	var err error
	w.cloudChild, err = start("cloud", w.path("cloud.log"), w.Lab, "cloud", "--info-file", w.path("cloud.json"),
		"--root-file", w.path("cloud-root.pem"), "--state-file", w.path("notifications.jsonl"),
		"--client-certificate", entra, "--strict", "--revocation-lease", "1m",
		"--queue-root-file", w.path(queueRoot), "--queue-state-file", w.path("queue.jsonl"), "--queue-client-certificate", w.path(queueClient+".pem"))
	if err != nil {
		return err
	}
	if err := w.cloudChild.until(ctx, patience, func() error { return readJSON(w.path("cloud.json"), &w.info) }); err != nil {
		return err
	}
	if w.cloud, err = cloud.Dial(w.info.Control); err != nil {
		return err
	}
	if w.queue, err = cloud.DialQueue(w.info.Queue.Control); err != nil {
		return err
	}
	w.show.say("cloud:  process %d, control API %s, queue of jobs %s (%.2fs)\n", w.cloudChild.pid(), w.info.Control, w.info.Queue.URL, time.Since(began).Seconds())
	return nil
}

// startCorp starts the Microsoft CA.
func (w *world) startCorp(ctx context.Context) error {
	began := time.Now()
	var err error
	if w.corpChild, err = start("Microsoft CA", w.path("adcs.log"), w.Lab, "adcs", "--dir", w.path(corpFolder)); err != nil {
		return err
	}
	if err := w.corpChild.until(ctx, patience, func() error { return readJSON(filepath.Join(w.path(corpFolder), "info.json"), &w.corp) }); err != nil {
		return err
	}
	w.show.say("CA:     process %d, a simulated Microsoft CA, %s over DCOM (%.2fs)\n", w.corpChild.pid(), w.corp.Config, time.Since(began).Seconds())
	return nil
}

func readJSON(path string, to any) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return json.Unmarshal(b, to)
}

// initConnector runs "certconnector init" and shortens the patience of the
// configuration, which is otherwise what an operator gets.
func (w *world) initConnector(ctx context.Context) error {
	address, release, err := freeport.Reserve()
	if err != nil {
		return err
	}
	w.release = release
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
	if _, err := w.run(ctx, "entra", "create"); err != nil {
		return err
	}
	if _, err := w.run(ctx, "ra", "enroll", "--endpoint", "corp", "--hostname", "scep.corp.test",
		"--signing-template", corpSigning, "--encryption-template", corpEncryption); err != nil {
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
