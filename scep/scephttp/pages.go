package scephttp

import (
	"html"
	"strings"
)

// servicePage is for a person who opens the URL of an endpoint, and says where
// challenges are had when there is such a page. A validation script counts
// only its status.
func servicePage(adminPath string) string {
	challenges := ""
	if adminPath != "" {
		challenges = `<p>A challenge for a device is had at <code>` + html.EscapeString(adminPath) + "</code>.</p>\n"
	}
	return strings.Replace(servicePageText, "CHALLENGES", challenges, 1)
}

const servicePageText = `<!DOCTYPE html>
<html lang="en"><head><title>Certificate enrolment service</title></head>
<body><h1>Certificate enrolment service</h1>
<p>The service works. Devices obtain their certificates here by themselves, with the Simple Certificate Enrolment Protocol (SCEP).</p>
<p>There is nothing to do here with a browser. Enter the address of this page as SCEP server URL in the device's profile.</p>
CHALLENGES</body></html>
`

// forbiddenPage goes with 403, which is the sign of health of an endpoint
// behind Intune.
const forbiddenPage = `<!DOCTYPE html>
<html lang="en"><head><title>403 Forbidden</title></head>
<body><h1>403 Forbidden</h1>
<p>Only managed devices are served here.</p>
</body></html>
`
