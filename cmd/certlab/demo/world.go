package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/certconnector/certconnector/agent/control"
	"github.com/certconnector/certconnector/cmd/certlab/cloud"
	"github.com/certconnector/certconnector/cmd/certlab/device"
	"github.com/certconnector/certconnector/installer/firstrun"
)

// hurry divides what devices wait: their five minutes are five seconds.
const hurry = 60

// withholdFor is the patience of the endpoint that has little.
const withholdFor = 4 * time.Second

// connectorFolder is the connector's folder in that of the demonstration.
const connectorFolder = "connector"

// maxSocket is what fits into a socket's address on every system.
const maxSocket = 103

// impatientPath is that endpoint's path.
const impatientPath = "/scep/impatient"

// world is the cloud, the CAs, the connector and the devices.
type world struct {
	*Options
	show *show

	cloudChild *child
	corpChild  *child
	connector  *child
	cloud      *cloud.Remote
	queue      *cloud.RemoteQueue // nil: there is none
	info       cloud.Info
	corp       corpInfo
	made       firstrun.Result
	http       *http.Client
	release    func() error // gives the connector's port back; nil: it has none yet

	held      map[string]*device.Holding // by platform: the first certificate
	delivered []*delivery
	rotated   string // thumbprint of the newest sign-in certificate; "": not replaced yet
}

// delivery is a certificate that left.
type delivery struct {
	platform string
	holding  *device.Holding
	untold   bool // Intune is told nothing of it: a job's
	revoked  bool // because the cloud wanted it
}

func (w *world) path(name string) string { return filepath.Join(w.Dir, name) }

// startConnector starts "certconnector run", waits until it answers, and tells
// how long that took.
func (w *world) startConnector(ctx context.Context) (took time.Duration, err error) {
	began := time.Now()
	if w.connector, err = start("connector", w.path("connector.log"), w.Program, "run", "--config", w.made.ConfigFile); err != nil {
		return 0, err
	}
	err = w.connector.until(ctx, patience, func() error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.made.SCEPURL+"?operation=GetCACaps", nil)
		if err != nil {
			return final{err}
		}
		resp, err := w.http.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("GetCACaps: status %d", resp.StatusCode)
		}
		return nil
	})
	return time.Since(began), err
}

// run runs a command of certconnector and returns what it prints.
func (w *world) run(ctx context.Context, args ...string) ([]byte, error) {
	if w.made.ConfigFile != "" {
		args = append(args, "--config", w.made.ConfigFile)
	}
	cmd := exec.CommandContext(ctx, w.Program, args...)
	cmd.WaitDelay = 5 * time.Second
	out, err := cmd.Output()
	if err != nil {
		var why []byte
		if e, ok := errors.AsType[*exec.ExitError](err); ok {
			why = e.Stderr
		}
		return nil, fmt.Errorf("certconnector %s: %w: %s%s", args[0], err, out, why)
	}
	return out, nil
}

// requests asks the running service for its enrolments.
func (w *world) requests(ctx context.Context) ([]control.Request, error) {
	out, err := w.run(ctx, "requests", "list", "--json", "--limit", "1000")
	if err != nil {
		return nil, err
	}
	var list []control.Request
	if err := json.Unmarshal(out, &list); err != nil {
		return nil, fmt.Errorf("reading the list of requests: %w", err)
	}
	return list, nil
}

// request finds the one enrolment of a transaction.
func (w *world) request(ctx context.Context, transaction string) (control.Request, error) {
	list, err := w.requests(ctx)
	if err != nil {
		return control.Request{}, err
	}
	var found []control.Request
	for _, r := range list {
		if r.TransactionID == transaction {
			found = append(found, r)
		}
	}
	if len(found) != 1 {
		return control.Request{}, fmt.Errorf("the journal has %d entries for transaction %s, want one", len(found), transaction)
	}
	return found[0], nil
}

// close stops what runs, the connector first.
func (w *world) close() error {
	var errs []error
	for _, c := range []*child{w.connector, w.corpChild, w.cloudChild} {
		if c != nil {
			errs = append(errs, c.stop())
		}
	}
	if w.release != nil {
		errs = append(errs, w.release())
	}
	return errors.Join(errs...)
}

// stopConnector stops the connector in order.
func (w *world) stopConnector() error {
	c := w.connector
	w.connector = nil
	return c.stop()
}

// invite says how to play with what runs.
func (w *world) invite() {
	root, config := w.made.RootCertificate, w.made.ConfigFile
	w.show.say(`
All runs on until you press Ctrl-C. In another terminal:

  # Enrol a device, and look at what was recorded.
  %[1]s enroll --url %[2]s --ca-file %[3]s --platform ios --cloud-control %[4]s --out /tmp/phone
  %[5]s requests list --config %[6]s

  # The cloud takes no more reports; devices get PENDING. Then it does again.
  curl -d '{"endpoint":"success","times":-1,"fault":{"status":500}}' %[4]sfaults
  curl -X DELETE %[4]sfaults

  # What the cloud was told. It wants a certificate revoked, and hears of it.
  curl %[4]snotifications
  curl -d '{"serial":"…"}' %[4]srevocations
  curl %[4]srevocations

  # The connector's own certificates, its jobs, what the Microsoft CA issued.
  %[5]s certificates --config %[6]s
  %[5]s jobs list --config %[6]s
  curl %[7]scertificates

`, w.Lab, w.made.SCEPURL, root, w.info.Control, w.Program, config, w.corp.Control)
}
