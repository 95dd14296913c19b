package identity

import (
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
)

// purposes are the extended key usages that the other side wants to see.
var purposes = map[Kind]struct {
	usage x509.ExtKeyUsage
	name  string
}{
	KindTLS:            {x509.ExtKeyUsageServerAuth, "serverAuth"},
	KindCRPServer:      {x509.ExtKeyUsageServerAuth, "serverAuth"},
	KindCRPClient:      {x509.ExtKeyUsageClientAuth, "clientAuth"},
	KindCALink:         {x509.ExtKeyUsageClientAuth, "clientAuth"},
	KindJobQueueClient: {x509.ExtKeyUsageClientAuth, "clientAuth"},
}

// unfit says why the other side would refuse a certificate, whatever its
// dates. A certificate without extended key usages is good for all.
func unfit(kind Kind, cert *x509.Certificate) error {
	want, known := purposes[kind]
	if !known || len(cert.ExtKeyUsage)+len(cert.UnknownExtKeyUsage) == 0 ||
		slices.Contains(cert.ExtKeyUsage, want.usage) || slices.Contains(cert.ExtKeyUsage, x509.ExtKeyUsageAny) {
		return nil
	}
	return fmt.Errorf("the certificate's extended key usage lacks %s", want.name)
}

// shared tells in rows that one certificate has two tasks: that works, and the
// end of one is then the end of both.
func shared(items []Item) {
	uses := map[string][]string{}
	for _, i := range items {
		if _, known := purposes[i.Kind]; known && i.SHA256 != "" {
			uses[i.SHA256] = append(uses[i.SHA256], i.Name)
		}
	}
	for n, i := range items {
		others := slices.DeleteFunc(slices.Clone(uses[i.SHA256]), func(name string) bool { return name == i.Name })
		if len(others) > 0 {
			items[n].Next += "; the same certificate serves " + strings.Join(others, " and ") + ": better one for each"
		}
	}
}
