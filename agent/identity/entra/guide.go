package entra

import (
	"fmt"
	"strings"
)

// Guide tells a person what to do with a certificate that was made: where to
// upload it and which permissions the app registration needs. The clientID is
// the application (client) ID, "" when it is not known yet.
func (u Upload) Guide(clientID string) string {
	var b strings.Builder
	made := "A certificate was made"
	if u.Again {
		made = "This certificate still waits to be uploaded"
	}
	fmt.Fprintf(&b, "%s:\n\n", made)
	fmt.Fprintf(&b, "  file        %s (or %s, which is the same in PEM)\n", u.DER, u.PEM)
	fmt.Fprintf(&b, "  subject     %s\n", u.Subject)
	fmt.Fprintf(&b, "  thumbprint  %s (SHA-1, as the portal shows it)\n", u.Thumbprint)
	fmt.Fprintf(&b, "  SHA-256     %s\n", u.SHA256)
	fmt.Fprintf(&b, "  valid until %s\n\n", u.NotAfter.UTC().Format("2006-01-02 15:04 MST"))
	application := "the app registration of this connector (make one for it alone when there is none: New registration, single tenant)"
	if clientID != "" {
		application = "the app registration with the application (client) ID " + clientID
	}
	fmt.Fprintf(&b, `1. Sign in at https://entra.microsoft.com as Application Administrator and open
   Identity > Applications > App registrations: %s.
2. Certificates & secrets > Certificates > Upload certificate: choose the file. The private key stays on this host.
   Compare the thumbprint.
3. API permissions > Add a permission, both of the type Application:
     Intune (under "APIs my organization uses": Microsoft Intune API)  scep_challenge_provider
     Microsoft Graph                                                   Application.Read.All
   Then "Grant admin consent".
4. Rotation needs no further permission: Microsoft Graph lets an application roll its own keys when it proves that it
   has one that is registered. Where a tenant refuses that all the same, grant Application.ReadWrite.OwnedBy (Microsoft
   Graph, Application) and make the application's service principal an owner of the app registration; or upload each
   new certificate as this one.
5. The certificate is tried by itself every few minutes. Entra may take some minutes to know it.
`, application)
	return b.String()
}
