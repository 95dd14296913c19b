package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/certconnector/certconnector/cmd/certlab/loopback"
)

// corpInfo is what "certlab adcs" says of itself, as far as it matters here.
type corpInfo struct {
	Config  string `json:"config"`
	Control string `json:"control"`
}

// corpRow is a certificate in the database of the Microsoft CA.
type corpRow struct {
	RequestID uint32    `json:"request_id"`
	Template  string    `json:"template"`
	Serial    string    `json:"serial"`
	Revoked   bool      `json:"revoked"`
	Reason    uint32    `json:"reason"`
	RevokedAt time.Time `json:"revoked_at"`
}

// corpURL is the endpoint of the Microsoft CA.
func (w *world) corpURL() string { return w.endpointURL(corpPath) }

// endpointURL is an endpoint's address by its path.
func (w *world) endpointURL(path string) string {
	return strings.TrimSuffix(w.made.SCEPURL, "/certsrv/mscep/mscep.dll") + path
}

// corpRows asks the Microsoft CA itself what it issued to devices.
func (w *world) corpRows(ctx context.Context) (devices []corpRow, own int, err error) {
	if w.corp.Control == "" {
		return nil, 0, nil // it does not run
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.corp.Control+"certificates", nil)
	if err != nil {
		return nil, 0, err
	}
	transport := loopback.Transport(nil, 1)
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport, Timeout: 10 * time.Second}).Do(req)
	if err != nil {
		return nil, 0, fmt.Errorf("asking the Microsoft CA: %w", err)
	}
	defer resp.Body.Close()
	var all []corpRow
	if err := json.NewDecoder(resp.Body).Decode(&all); err != nil || resp.StatusCode != http.StatusOK {
		return nil, 0, fmt.Errorf("asking the Microsoft CA: status %d, %w", resp.StatusCode, err)
	}
	for _, r := range all {
		if r.Template == corpSigning || r.Template == corpEncryption {
			own++
			continue
		}
		devices = append(devices, r)
	}
	return devices, own, nil
}
