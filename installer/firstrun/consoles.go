package firstrun

import "fmt"

// Names and IDs of what an app registration is given. Microsoft's portals show
// the names; the IDs are for those who automate.
const (
	intuneAPI   = "Microsoft Intune API, c161e42e-d4df-4a3d-9b42-e7a3c31f59d4"
	intuneRole  = "scep_challenge_provider"
	intuneID    = "39d724e8-6a34-4930-9a36-364082c35716"
	graphAPI    = "00000003-0000-0000-c000-000000000000"
	graphRole   = "Application.Read.All"
	graphRoleID = "9a5d68dd-52b0-4cc2-bd40-abcf44ac3a30"
)

// EntraSteps are what a person does in Entra's console, in the order in which
// it is done. Menus are Microsoft's and change.
func EntraSteps(clientID, certificate, thumbprint string) []string {
	return []string{
		fmt.Sprintf(`In https://entra.microsoft.com, App registrations, the one with the application (client) ID
   %s: Certificates & secrets, Certificates, Upload certificate:
   %s
   and compare its thumbprint: %s.`, clientID, certificate, thumbprint),
		fmt.Sprintf(`There, API permissions, Add a permission, both of the kind "Application permissions":
     Intune           %s
                      (API: %s; permission: %s)
     Microsoft Graph  %s
                      (API: %s; permission: %s)
   then "Grant admin consent".`, intuneRole, intuneAPI, intuneID, graphRole, graphAPI, graphRoleID),
	}
}

// IntuneSteps are what a person does in Intune's console.
func IntuneSteps(scepURL, rootCommand string) []string {
	return []string{
		fmt.Sprintf(`In https://intune.microsoft.com, Devices, Configuration, Create, for each platform:
   Trusted certificate: the file that this writes: %s`, rootCommand),
		fmt.Sprintf(`There, a SCEP certificate, assigned to the same groups:
     SCEP server URL     %s
     Root certificate    the profile above
     Subject name        as relying parties want it: CN={{DeviceName}}, CN={{UserPrincipalName}}
     Key usage           Digital signature, Key encipherment
     Key size            2048 or 4096
     Hash algorithm      SHA-2
     Extended key usage  Client Authentication (1.3.6.1.5.5.7.3.2)
     Validity period     1 year at most; renewal threshold 20 %%`, scepURL),
	}
}
