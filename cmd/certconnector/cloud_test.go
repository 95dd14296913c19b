package main

import (
	"crypto/x509"
	"encoding/pem"
	"os"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/certconnector/certconnector/intune/intunetest"
)

// cloudOfScript is the simulated cloud of one script, once it has one.
type cloudOfScript struct{ *intunetest.Cloud }

type cloudKey struct{}

// cloud is "cloud start ROOTFILE", which starts a simulated cloud and says by
// AUTHORITY, GRAPH, RESOURCE, TENANT and CLIENT where it is; "cloud upload
// CERTIFICATE" is what a person does in the app registration, "cloud roles
// [ROLE...]" what the permissions are then, "cloud outage".
func cloud(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: cloud start ROOTFILE | upload CERTIFICATE | roles [ROLE...] | outage")
	}
	c := ts.Value(cloudKey{}).(*cloudOfScript)
	switch args[0] {
	case "start":
		made, err := intunetest.New(intunetest.Options{})
		ts.Check(err)
		ts.Check(made.Start())
		ts.Defer(func() { _ = made.Close() })
		c.Cloud = made
		info := made.Info()
		for name, value := range map[string]string{
			"AUTHORITY": info.Authority, "GRAPH": info.Graph, "RESOURCE": info.Resource, "TENANT": info.Tenant, "CLIENT": info.ClientID,
		} {
			ts.Setenv(name, value)
		}
		ts.Check(os.WriteFile(ts.MkAbs(args[1]), made.RootPEM(), 0o600))
	case "upload":
		block, _ := pem.Decode([]byte(ts.ReadFile(args[1])))
		if block == nil {
			ts.Fatalf("%s holds no certificate", args[1])
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		ts.Check(err)
		ts.Check(c.SetCertificates(intunetest.ContosoID, intunetest.ContosoClient, cert))
	case "roles":
		ts.Check(c.SetRoles(intunetest.ContosoID, intunetest.ContosoClient, args[1:]...))
	case "outage":
		c.SetOutage(true)
	default:
		ts.Fatalf("the cloud cannot %s", args[0])
	}
}
