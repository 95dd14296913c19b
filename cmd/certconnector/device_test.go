package main

import (
	"context"
	"crypto/x509/pkix"
	"os"
	"strconv"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/certconnector/certconnector/internal/secret"
	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/scep/scepclient"
)

// enroll is "enroll STATUS URL CHALLENGEFILE KEY NAME": a device asks once for
// a certificate and wants the pkiStatus. Asking again is the same request. It
// writes the serial number to standard output.
func enroll(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 5 {
		ts.Fatalf("usage: enroll STATUS URL CHALLENGEFILE KEY NAME")
	}
	quirks, err := scepclient.Platform("linux")
	ts.Check(err)
	quirks.Retries = 0
	key, err := strconv.Atoi(args[3])
	ts.Check(err)
	name, err := strconv.Unquote(`"` + args[4] + `"`)
	ts.Check(err)
	c := &scepclient.Client{URL: args[1], Quirks: quirks}
	reply, err := c.Enroll(context.Background(), scepclient.EnrollRequest{
		Key: testkeys.RSA2048(key),
		CSR: scepclient.CSR{
			Subject:   pkix.Name{CommonName: name},
			Challenge: secret.Text(strings.TrimSpace(ts.ReadFile(args[2]))),
		},
	})
	ts.Check(err)
	if got := reply.Status.String(); got != args[0] {
		ts.Fatalf("status %s %s %s, want %s", got, reply.FailInfo, reply.FailInfoText, args[0])
	}
	if reply.Certificate != nil {
		_, err := ts.Stdout().Write([]byte(strings.ToUpper(reply.Certificate.SerialNumber.Text(16)) + "\n"))
		ts.Check(err)
		ts.Setenv("SERIAL", reply.Certificate.SerialNumber.Text(16))
	}
}

// edit is "edit FILE OLD NEW": it replaces a text that is there once.
func edit(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: edit FILE OLD NEW")
	}
	text := ts.ReadFile(args[0])
	if strings.Count(text, args[1]) != 1 {
		ts.Fatalf("%q is not once in %s", args[1], args[0])
	}
	with := strings.ReplaceAll(args[2], `\n`, "\n")
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(strings.Replace(text, args[1], with, 1)), 0o600))
}
