package scephttp_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/certconnector/certconnector/scep"
	"github.com/certconnector/certconnector/scep/scepclient"
	"github.com/certconnector/certconnector/scep/scephttp"
)

// discard is the cheapest http.ResponseWriter.
type discard struct{ header http.Header }

func (d discard) Header() http.Header         { return d.header }
func (d discard) Write(b []byte) (int, error) { return len(b), nil }
func (d discard) WriteHeader(int)             {}

// busyJSON logs as the service does, to nowhere.
func busyJSON() *zap.Logger {
	return zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), zapcore.AddSync(io.Discard), zap.InfoLevel))
}

type refuser struct{}

func (refuser) Enroll(context.Context, *scep.Request) (*scep.Result, error) {
	return scep.Refuse(scep.BadRequest, "benchmark"), nil
}

// BenchmarkPKIOperation is a whole exchange; BenchmarkMessage the same without
// HTTP, limits and log. Their difference is what this package costs.
func BenchmarkPKIOperation(b *testing.B) {
	a := newAuthority(b, false)
	e := a.endpoint()
	e.Enroller = refuser{}
	h, err := scephttp.New([]scephttp.Endpoint{e}, scephttp.Limits{FailuresPerMinute: -1}, busyJSON(), nil)
	if err != nil {
		b.Fatal(err)
	}
	message := a.message(b, scepclient.Quirks{}, "x").Raw
	request := httptest.NewRequest("POST", path+"?operation=PKIOperation", nil)
	request.ContentLength = int64(len(message))
	w := discard{http.Header{}}
	b.ReportAllocs()
	for b.Loop() {
		request.Body = io.NopCloser(bytes.NewReader(message))
		h.ServeHTTP(w, request)
	}
}

// BenchmarkFlooded is the same with two hundred devices at once.
func BenchmarkFlooded(b *testing.B) {
	a := newAuthority(b, false)
	e := a.endpoint()
	e.Enroller = refuser{}
	h, err := scephttp.New([]scephttp.Endpoint{e}, scephttp.Limits{FailuresPerMinute: -1}, busyJSON(), nil)
	if err != nil {
		b.Fatal(err)
	}
	message := a.message(b, scepclient.Quirks{}, "x").Raw
	b.SetParallelism(200 / runtime.GOMAXPROCS(0))
	b.ReportAllocs()
	b.RunParallel(func(next *testing.PB) {
		for next.Next() {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest("POST", path+"?operation=PKIOperation", bytes.NewReader(message)))
			if w.Code != http.StatusOK {
				b.Errorf("status %d", w.Code)
			}
		}
	})
}

func BenchmarkMessage(b *testing.B) {
	a := newAuthority(b, false)
	message := a.message(b, scepclient.Quirks{}, "x").Raw
	b.ReportAllocs()
	for b.Loop() {
		m, err := scep.Parse(message, scep.Algorithms{})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := m.Open(a.ra); err != nil {
			b.Fatal(err)
		}
		if _, err := a.ra.Reply(m, scep.Refuse(scep.BadRequest, "benchmark")); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCapabilities(b *testing.B) {
	a := newAuthority(b, false)
	h, err := scephttp.New([]scephttp.Endpoint{a.endpoint()}, scephttp.Limits{}, busyJSON(), nil)
	if err != nil {
		b.Fatal(err)
	}
	request := httptest.NewRequest("GET", path+"?operation=GetCACaps&message=x", nil)
	w := discard{http.Header{}}
	b.ReportAllocs()
	for b.Loop() {
		h.ServeHTTP(w, request)
	}
}
