// Package load measures the PKCSReq path of a SCEP server on the loopback
// interface (RFC 8894, section 3.3.1). All requests are made before the clock
// starts and all replies are verified after it has stopped, so that neither
// is part of what is measured: in between there is nothing but HTTP.
//
// The loop is closed: each connection has one request under way. Under
// overload the percentiles therefore tell how long the queue is, not how late
// an independent device would be served. Of the figures, the server's CPU
// time by request depends least on what else the machine does.
package load

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/certconnector/certconnector/cmd/certlab/loopback"
	"github.com/certconnector/certconnector/internal/secret"
	"github.com/certconnector/certconnector/scep/scepclient"
)

// Options say what to send. The zero value of most means a default.
type Options struct {
	URL string // of the endpoint, without query; loopback only

	// Challenge goes into every request. With CloudControl, the control API
	// of a simulated cloud, each request has a fresh challenge instead and the
	// names that belong to it.
	Challenge    secret.Text
	CloudControl string
	Platform     string // of the devices with CloudControl; "": windows

	N           int // requests measured; 0: 300. CPU time comes in ticks of 10 ms: fewer say little
	Concurrency int // keep-alive connections; 0: 8
	Warmup      int // requests sent before the clock starts
	PID         int // the server's process, for its CPU time and memory; 0: not measured

	Method string // post (default) or get
	Cipher string // aes128 (default), aes256, 3des or des

	Keys     int    // RSA-2048 device keys, used in turn; 0: 64. Making one takes some 50 ms
	KeyFile  string // keeps the keys for the next run; "": they are not kept
	Insecure bool   // do not verify the server's TLS certificate
	Roots    *x509.CertPool

	Timeout time.Duration // of one request; 0: 1 minute
	MaxTime time.Duration // of the measured part; 0: 5 minutes
}

// Bounds, so that a mistyped number does no harm.
const (
	maxRequests    = 200_000
	maxConnections = 1024
	maxKeys        = 4096
)

func (o *Options) complete() error {
	o.N, o.Concurrency = cmp.Or(o.N, 300), cmp.Or(o.Concurrency, 8)
	o.Method, o.Cipher = cmp.Or(o.Method, "post"), cmp.Or(o.Cipher, "aes128")
	o.Keys = cmp.Or(o.Keys, 64)
	o.Platform = cmp.Or(o.Platform, "windows")
	o.Timeout, o.MaxTime = cmp.Or(o.Timeout, time.Minute), cmp.Or(o.MaxTime, 5*time.Minute)
	var errs []error
	if err := loopback.Check(o.URL); err != nil {
		errs = append(errs, err)
	}
	if o.N < 1 || o.Warmup < 0 || o.N+o.Warmup > maxRequests {
		errs = append(errs, fmt.Errorf("%d requests and %d for warming up: want at least one and %d at most", o.N, o.Warmup, maxRequests))
	}
	if o.Concurrency < 1 || o.Concurrency > maxConnections {
		errs = append(errs, fmt.Errorf("%d connections: want 1 to %d", o.Concurrency, maxConnections))
	}
	if o.Keys < 1 || o.Keys > maxKeys {
		errs = append(errs, fmt.Errorf("%d device keys: want 1 to %d", o.Keys, maxKeys))
	}
	if o.Method != "post" && o.Method != "get" {
		errs = append(errs, fmt.Errorf("method %q is unknown, want post or get", o.Method))
	}
	if _, ok := ciphers[o.Cipher]; !ok {
		errs = append(errs, fmt.Errorf("cipher %q is unknown, want aes128, aes256, 3des or des", o.Cipher))
	}
	if (o.Challenge == "") == (o.CloudControl == "") {
		errs = append(errs, errors.New("want either a challenge or the control API of a cloud that makes challenges"))
	}
	return errors.Join(errs...)
}

// Run makes the requests, sends them and verifies the replies. Requests that
// fail are counted in the report; an error means that there is none.
func Run(ctx context.Context, o Options) (*Report, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	transport := loopback.Transport(&tls.Config{RootCAs: o.Roots, InsecureSkipVerify: o.Insecure}, o.Concurrency) //nolint:gosec // asked for, and loopback only
	defer transport.CloseIdleConnections()
	client := &scepclient.Client{
		URL: o.URL, HTTP: &http.Client{Transport: transport, Timeout: o.Timeout},
		Quirks: scepclient.Quirks{Name: "load", ContentType: "application/x-pki-message", AlwaysGET: o.Method == "get", Cipher: ciphers[o.Cipher]},
	}
	service, err := client.Discover(ctx)
	if err != nil {
		return nil, err
	}
	if o.Method == "post" && !service.Capabilities.Has("POSTPKIOperation") {
		return nil, errors.New("GetCACaps does not list POSTPKIOperation, use get")
	}
	keys, err := deviceKeys(ctx, o.KeyFile, o.Keys)
	if err != nil {
		return nil, err
	}
	shots, err := prepare(ctx, &o, client, service, keys)
	if err != nil {
		return nil, err
	}

	drive(ctx, client.HTTP, shots[:o.Warmup], o.Concurrency)
	runtime.GC() // the heap holds every request: collect it before the clock starts
	report := &Report{
		URL: o.URL, Method: o.Method, Cipher: o.Cipher, Requests: o.N, Concurrency: o.Concurrency, Warmup: o.Warmup,
		Load1: loadAverage(), Errors: map[string]int{},
	}
	measured := shots[o.Warmup:]
	if err := report.measure(o.PID, len(measured), func() {
		ctx, cancel := context.WithTimeout(ctx, o.MaxTime)
		defer cancel()
		drive(ctx, client.HTTP, measured, o.Concurrency)
	}); err != nil {
		return nil, err
	}
	report.judge(ctx, client, service, measured)
	report.latencies(measured)
	return report, nil
}

// drive sends shots over so many connections and waits for all of them.
func drive(ctx context.Context, client *http.Client, shots []*shot, connections int) {
	var next atomic.Int64
	var senders sync.WaitGroup
	for range min(connections, len(shots)) {
		senders.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(shots) {
					return
				}
				shots[i].fire(ctx, client)
			}
		})
	}
	senders.Wait()
}

// latencies fills in what the times of answered requests say.
func (r *Report) latencies(shots []*shot) {
	var times []time.Duration
	for _, s := range shots {
		r.RequestBytes += len(s.message.Raw)
		if s.err == nil {
			times = append(times, s.took)
			r.ReplyBytes += len(s.body)
		}
	}
	r.RequestBytes /= max(1, len(shots))
	r.ReplyBytes /= max(1, len(times))
	slices.Sort(times)
	r.P50, r.P90, r.P95, r.P99 = percentile(times, 50), percentile(times, 90), percentile(times, 95), percentile(times, 99)
	r.Max = percentile(times, 100)
}

// percentile is the nearest-rank percentile of sorted times in milliseconds,
// 0 of none.
func percentile(sorted []time.Duration, p int) float64 {
	if len(sorted) == 0 {
		return 0
	}
	rank := (len(sorted)*p + 99) / 100
	return milliseconds(sorted[max(rank, 1)-1])
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
