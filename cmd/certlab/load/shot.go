package load

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/certconnector/certconnector/cmd/certlab/cloud"
	"github.com/certconnector/certconnector/cmd/certlab/device"
	"github.com/certconnector/certconnector/intune/intunetest"
	"github.com/certconnector/certconnector/scep/scepclient"
)

var ciphers = map[string]scepclient.Cipher{
	"aes128": scepclient.AES128, "aes256": scepclient.AES256, "3des": scepclient.TripleDES, "des": scepclient.SingleDES,
}

// shot is one request, ready to be sent, and what came of it.
type shot struct {
	message *scepclient.Message
	key     *rsa.PrivateKey
	profile device.Profile
	request *http.Request
	content []byte // of a POST

	status int
	header http.Header
	body   []byte
	took   time.Duration
	err    error
}

// prepare makes every request, on all processors.
func prepare(ctx context.Context, o *Options, client *scepclient.Client, service *scepclient.Service, keys []*rsa.PrivateKey) ([]*shot, error) {
	wish, err := profiles(o)
	if err != nil {
		return nil, err
	}
	shots := make([]*shot, o.Warmup+o.N)
	err = parallel(ctx, len(shots), func(i int) error {
		s := &shot{key: keys[i%len(keys)]}
		var err error
		if s.profile, err = wish(ctx, i); err != nil {
			return err
		}
		csr, err := s.profile.CSR()
		if err != nil {
			return err
		}
		// Keys serve again, so transaction IDs do not follow from them.
		transaction, err := client.Prepare(ctx, scepclient.EnrollRequest{
			Key: s.key, CSR: csr, Service: service, TransactionID: hex.EncodeToString(random(20)),
		})
		if err != nil {
			return fmt.Errorf("making request %d: %w", i, err)
		}
		s.message = transaction.Message
		shots[i] = s
		return s.aim(ctx, client)
	})
	return shots, err
}

// profiles returns what makes the profile of each request.
func profiles(o *Options) (func(context.Context, int) (device.Profile, error), error) {
	if o.CloudControl == "" {
		run := "load-" + hex.EncodeToString(random(5)) // runs never collide
		return func(_ context.Context, i int) (device.Profile, error) {
			name := fmt.Sprintf("%s-%07d", run, i)
			return device.Profile{Subject: "CN=" + name, DNS: []string{name + ".example.test"}, Challenge: o.Challenge}, nil
		}, nil
	}
	remote, err := cloud.Dial(o.CloudControl)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, _ int) (device.Profile, error) {
		c, err := remote.Challenge(ctx, intunetest.Ask{Platform: o.Platform})
		return device.Profiled(c), err
	}, nil
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

// errAimed ends an exchange whose request was kept for later.
var errAimed = errors.New("kept for later")

// keeper is a transport that keeps the request in place of sending it.
type keeper struct{ s *shot }

func (k keeper) RoundTrip(r *http.Request) (*http.Response, error) {
	k.s.request = r
	if r.Body == nil {
		return nil, errAimed
	}
	var err error
	if k.s.content, err = io.ReadAll(r.Body); err == nil {
		err = errAimed
	}
	return nil, err
}

// aim has the client form the HTTP request for the message without sending it,
// so that a POST or GET is the one a device of these quirks sends.
func (s *shot) aim(ctx context.Context, client *scepclient.Client) error {
	c := *client
	c.HTTP = &http.Client{Transport: keeper{s}}
	if _, err := c.Send(ctx, s.message); !errors.Is(err, errAimed) {
		return fmt.Errorf("forming a request: %w", err)
	}
	return nil
}

// fire sends the request and keeps the answer.
func (s *shot) fire(ctx context.Context, client *http.Client) {
	if ctx.Err() != nil {
		s.err = errors.New("not sent: out of time")
		return
	}
	request := s.request.Clone(ctx)
	if s.request.Method == http.MethodPost {
		request.Body, request.ContentLength = io.NopCloser(bytes.NewReader(s.content)), int64(len(s.content))
	} else {
		request.Body = nil
	}
	start := time.Now()
	defer func() { s.took = time.Since(start) }()
	response, err := client.Do(request)
	if err != nil {
		s.err = err
		return
	}
	defer response.Body.Close()
	s.status, s.header = response.StatusCode, response.Header
	s.body, s.err = io.ReadAll(io.LimitReader(response.Body, 1<<20))
}

// RoundTrip answers with what was kept: the reply is read after the clock has
// stopped.
func (s *shot) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{
		StatusCode: s.status, Header: s.header, Body: io.NopCloser(bytes.NewReader(s.body)), Request: r,
		ContentLength: int64(len(s.body)), ProtoMajor: 1, ProtoMinor: 1,
	}, nil
}

// parallel calls do(0) … do(n-1) on all processors until one fails.
func parallel(ctx context.Context, n int, do func(int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				if err := do(i); err != nil {
					cancel(err)
				}
			}
		})
	}
	workers.Wait()
	return context.Cause(ctx)
}
