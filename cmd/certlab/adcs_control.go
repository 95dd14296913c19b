package main

import (
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"time"

	"github.com/certconnector/certconnector/ca/adcstest"
	"github.com/certconnector/certconnector/cmd/certlab/device"
	"github.com/certconnector/certconnector/cmd/certlab/loopback"
)

// adcsRow is what the CA's database says of a certificate.
type adcsRow struct {
	RequestID uint32    `json:"request_id"`
	Template  string    `json:"template"`
	Caller    string    `json:"caller"`
	Serial    string    `json:"serial"` // upper-case hexadecimal of even length
	Revoked   bool      `json:"revoked"`
	Reason    uint32    `json:"reason"` // as RFC 5280 numbers it
	RevokedAt time.Time `json:"revoked_at,omitzero"`
}

// serveControl answers what the CA issued, for the loopback interface:
//
//	GET /control/certificates  [adcsRow], oldest first
func serveControl(ca *adcstest.CA, address string) (url string, end func() error, err error) {
	if address == "" {
		address = "127.0.0.1:0"
	}
	if err := loopback.Check("http://" + address); err != nil {
		return "", nil, err
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return "", nil, fmt.Errorf("starting the control API: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /control/certificates", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(adcsRows(ca)) // who asked has gone
	})
	s := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, ErrorLog: log.New(io.Discard, "", 0)}
	go func() { _ = s.Serve(l) }() // it ends when it is closed
	return "http://" + l.Addr().String() + "/control/", s.Close, nil
}

// adcsRows are the certificates of the database.
func adcsRows(ca *adcstest.CA) []adcsRow {
	list := []adcsRow{}
	for _, r := range ca.Rows() {
		cert, err := x509.ParseCertificate(r.Certificate)
		if err != nil {
			continue // parked, or refused
		}
		list = append(list, adcsRow{
			RequestID: r.RequestID, Template: r.Template, Caller: r.Caller, Serial: device.Serial(cert.SerialNumber),
			Revoked: r.Disposition == adcstest.DispositionRevoked, Reason: r.Reason, RevokedAt: r.RevokedAt,
		})
	}
	return list
}
