package sqlite_test

import (
	"math/big"
	"path/filepath"
	"testing"
	"time"

	"github.com/certconnector/certconnector/agent/journal/sqlite"
	"github.com/certconnector/certconnector/ca"
)

// TestCertificates lists one CA's certificates, the newest first.
func TestCertificates(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal.db")
	if err := sqlite.Create(path); err != nil {
		t.Fatal(err)
	}
	j, err := sqlite.Open(path, sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	now := time.Now()
	for i, name := range []string{"lab", "other", "lab", "lab"} {
		err := j.AddCertificate(t.Context(), name, ca.RegisteredCertificate{
			Serial: big.NewInt(int64(100 + i)), DER: []byte{byte(i)}, IssuedAt: now, NotAfter: now.Add(time.Hour),
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := j.RevokeCertificate(t.Context(), "lab", big.NewInt(102), ca.Superseded, now); err != nil {
		t.Fatal(err)
	}
	list, err := j.Certificates(t.Context(), "lab", 2)
	if err != nil || len(list) != 2 {
		t.Fatalf("%d certificates, %v", len(list), err)
	}
	if list[0].Serial.Int64() != 103 || list[0].Revoked || list[1].Serial.Int64() != 102 || !list[1].Revoked {
		t.Errorf("list %v", list)
	}
}
