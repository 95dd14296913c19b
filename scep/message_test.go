package scep_test

import (
	"bytes"
	"testing"
)

func TestSmoke(t *testing.T) {
	w := newWorld(t)
	csr := request{}.build(t)
	_, req := exchange(t, w.ra(t), message{content: envelope{to: []to{{cert: w.encryption}}, plain: csr}.build(t)}.build(t), everything)
	if !bytes.Equal(req.CSR.Raw, csr) || req.TransactionID != string(transactionID) {
		t.Error("not the request that was sent")
	}
}
