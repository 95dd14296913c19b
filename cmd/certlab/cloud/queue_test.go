package cloud_test

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/certconnector/certconnector/agent/jobs/jobqueue"
	"github.com/certconnector/certconnector/agent/jobs/jobqueuetest"
	"github.com/certconnector/certconnector/cmd/certlab/cloud"
	"github.com/certconnector/certconnector/internal/testkeys"
)

// serve runs a cloud until the test ends, or until stop is called.
func serve(t *testing.T, o cloud.Options) (info cloud.Info, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	up, ended := make(chan cloud.Info, 1), make(chan error, 1)
	go func() { ended <- cloud.Serve(ctx, o, func(i cloud.Info) { up <- i }) }()
	var once bool
	stop = func() {
		if once {
			return
		}
		once = true
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the cloud ended: %v", err)
		}
	}
	t.Cleanup(stop)
	select {
	case info = <-up:
	case err := <-ended:
		ended <- nil
		t.Fatal(err)
	}
	return info, stop
}

// client is a certificate for the queue, and PEM of it.
func client(t *testing.T, i int) (tls.Certificate, []byte) {
	t.Helper()
	key := testkeys.P256(i)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(int64(i) + 1), Subject: pkix.Name{CommonName: "connector"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// asks is a client of the queue, as the connector has one.
func asks(t *testing.T, info cloud.Info, cert tls.Certificate) *jobqueue.Client {
	t.Helper()
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(info.Queue.RootPEM)) {
		t.Fatal("the queue names no certificate")
	}
	c, err := jobqueue.New(jobqueue.Config{URL: info.Queue.URL, RootCAs: roots, Certificate: func() (*tls.Certificate, error) { return &cert, nil }})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// served asks until the queue serves the client, for a moment.
func served(t *testing.T, c *jobqueue.Client) (jobqueue.Batch, error) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(20 * time.Millisecond) {
		batch, err := c.Download(t.Context(), 10)
		if err == nil || time.Now().After(deadline) {
			return batch, err
		}
	}
}

// TestQueueBesideTheCloud goes the way of a job: added by the control API,
// downloaded over mutual TLS, told, and known by the control API, also after
// the process died.
func TestQueueBesideTheCloud(t *testing.T) {
	dir := t.TempDir()
	ours, text := client(t, 0)
	o := cloud.Options{InfoFile: filepath.Join(dir, "info.json"), Queue: cloud.QueueOptions{
		StateFile: filepath.Join(dir, "jobs"), RootFile: filepath.Join(dir, "root.pem"), Certificate: filepath.Join(dir, "client.pem"),
	}}
	info, stop := serve(t, o)
	queue, err := cloud.DialQueue(info.Queue.Control)
	if err != nil {
		t.Fatal(err)
	}
	if err := queue.Add(t.Context(), jobqueuetest.Job{RequestContext: "a", Subject: "CN=ann"}); err != nil {
		t.Fatal(err)
	}
	if err := queue.Add(t.Context(), jobqueuetest.Job{Subject: "CN=ann"}); err == nil || !strings.Contains(err.Error(), "requestContext") {
		t.Errorf("a job without a context: %v", err)
	}

	// Nobody is served before the certificate's file is there.
	connector := asks(t, info, ours)
	if _, err := connector.Download(t.Context(), 10); err == nil {
		t.Error("a client that nobody named was served")
	}
	if err := os.WriteFile(o.Queue.Certificate, text, 0o600); err != nil {
		t.Fatal(err)
	}
	batch, err := served(t, connector)
	if err != nil || len(batch.Jobs) != 1 || batch.Jobs[0].Subject != "CN=ann" {
		t.Fatalf("downloaded %+v, %v", batch, err)
	}
	if waiting, err := queue.Waiting(t.Context()); err != nil || len(waiting) != 1 {
		t.Errorf("waiting %v, %v", waiting, err)
	}
	if err := connector.Upload(t.Context(), []jobqueue.Result{{Context: "a", Succeeded: true, Sealed: []byte("sealed")}}); err != nil {
		t.Fatal(err)
	}

	// A file that changed counts, and the one before no more.
	theirs, text := client(t, 1)
	if err := os.WriteFile(o.Queue.Certificate, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if batch, err := served(t, asks(t, info, theirs)); err != nil || len(batch.Jobs) != 0 {
		t.Errorf("after the result the successor got %+v, %v", batch, err)
	}
	if _, err := connector.Download(t.Context(), 10); err == nil {
		t.Error("a client that is named no more was served")
	}

	var written cloud.Info
	if b, err := os.ReadFile(o.InfoFile); err != nil || json.Unmarshal(b, &written) != nil || written != info {
		t.Errorf("%s says %+v, want %+v (%v)", o.InfoFile, written, info, err)
	}
	if b, err := os.ReadFile(o.Queue.RootFile); err != nil || string(b) != info.Queue.RootPEM {
		t.Errorf("the root file has %q, %v", b, err)
	}
	stop()
	info, _ = serve(t, o)
	if queue, err = cloud.DialQueue(info.Queue.Control); err != nil {
		t.Fatal(err)
	}
	results, err := queue.Results(t.Context())
	if r := results["a"]; err != nil || !r.Succeeded || string(r.Sealed) != "sealed" {
		t.Errorf("after a restart the results are %v, %v", results, err)
	}
	waiting, err := queue.Waiting(t.Context())
	two, err2 := queue.Contradictions(t.Context())
	if err != nil || err2 != nil || len(waiting) != 0 || len(two) != 0 {
		t.Errorf("waiting %v (%v), contradictions %v (%v)", waiting, err, two, err2)
	}
}

// TestControlOfRevocations: what nobody reported cannot be revoked, and an
// application has the certificates that it was given.
func TestControlOfRevocations(t *testing.T) {
	info, _ := serve(t, cloud.Options{})
	remote, err := cloud.Dial(info.Control)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := remote.Revoke(t.Context(), "0A"); err == nil || !strings.Contains(err.Error(), "no notification") {
		t.Errorf("a serial number that nobody reported: %v", err)
	}
	list, err := remote.Revocations(t.Context())
	two, err2 := remote.Contradictions(t.Context())
	keys, err3 := remote.Keys(t.Context())
	if err != nil || err2 != nil || err3 != nil || len(list)+len(two)+len(keys) != 0 {
		t.Errorf("revocations %v (%v), contradictions %v (%v), keys %v (%v)", list, err, two, err2, keys, err3)
	}
}
