package intune

import "fmt"

// Cloud names one of Microsoft's national clouds.
type Cloud string

// The clouds. Custom has no addresses of its own: every one must be given.
const (
	Public Cloud = "public" // also GCC
	USGov  Cloud = "usgov"  // GCC High
	DoD    Cloud = "dod"
	China  Cloud = "china" // operated by 21Vianet; whether third-party SCEP is offered there is not documented
	Custom Cloud = "custom"
)

// Endpoints are the addresses and versions of one cloud. In a Config each
// empty field takes the value of the configured Cloud. Authority, Graph and
// Resource must belong to one cloud: a token of another one is refused.
type Endpoints struct {
	Authority      string // sign-in, ending in a slash: https://login.microsoftonline.com/
	Graph          string // Microsoft Graph, ending in a slash: https://graph.microsoft.com/
	GraphVersion   string // default 1.0; v1.0 in the path
	Resource       string // the Intune API whose tokens are asked for: https://api.manage.microsoft.com/
	DiscoveryAppID string // the application whose service endpoints Graph lists
	SCEPVersion    string // api-version header of the SCEP actions, default 2018-02-20

	// The revocation actions. Microsoft has announced that the download will
	// be replaced, so that each part of its address can be configured.
	RevocationService string // name in the list of services, default PkiConnectorFEService
	RevocationVersion string // api-version header, default 5019-05-05
	DownloadAction    string // path below the service, default CertificateAuthorityRequests/downloadRevocationRequests
	UploadAction      string // path below the service, default CertificateAuthorityRequests/uploadRevocationResults

	// PFXVersion is the version of Microsoft Graph in the path of
	// userPfxCertificates, which v1.0 does not have; default beta.
	PFXVersion string

	// ServiceHosts lists the hosts that may be sent an Intune token: a name
	// with a leading dot stands for every host below it, any other name for
	// itself. Discovered addresses elsewhere are not used.
	ServiceHosts []string
}

// Values that are the same in every cloud.
const (
	defaultGraphVersion      = "1.0"
	defaultDiscoveryAppID    = "0000000a-0000-0000-c000-000000000000"
	defaultSCEPVersion       = "2018-02-20"
	defaultRevocationVersion = "5019-05-05"
	defaultRevocationService = "PkiConnectorFEService"
	defaultDownloadAction    = "CertificateAuthorityRequests/downloadRevocationRequests"
	defaultUploadAction      = "CertificateAuthorityRequests/uploadRevocationResults"
	defaultPFXVersion        = "beta"
)

// clouds has the addresses of each national cloud. China's Intune resource is
// not documented and must be configured.
var clouds = map[Cloud]Endpoints{
	Public: {
		Authority:    "https://login.microsoftonline.com/",
		Graph:        "https://graph.microsoft.com/",
		Resource:     "https://api.manage.microsoft.com/",
		ServiceHosts: []string{".manage.microsoft.com"},
	},
	USGov: {
		Authority:    "https://login.microsoftonline.us/",
		Graph:        "https://graph.microsoft.us/",
		Resource:     "https://api.manage.microsoft.us/",
		ServiceHosts: []string{".manage.microsoft.us"},
	},
	DoD: {
		Authority:    "https://login.microsoftonline.us/",
		Graph:        "https://dod-graph.microsoft.us/",
		Resource:     "https://api.manage.microsoft.us/",
		ServiceHosts: []string{".manage.microsoft.us"},
	},
	China: {
		Authority:    "https://login.chinacloudapi.cn/",
		Graph:        "https://microsoftgraph.chinacloudapi.cn/",
		ServiceHosts: []string{".manage.microsoftonline.cn"},
	},
	Custom: {},
}

// signInHosts are the names one national cloud's sign-in service may use for
// another of its own: metadata of login.chinacloudapi.cn names the partner
// host. A credential is sent to no host but the configured one and these.
var signInHosts = map[string][]string{
	"login.microsoftonline.com":        {"login.windows.net", "login.microsoft.com"},
	"login.chinacloudapi.cn":           {"login.partner.microsoftonline.cn"},
	"login.partner.microsoftonline.cn": {"login.chinacloudapi.cn"},
	"login.microsoftonline.us":         {"login.usgovcloudapi.net"},
}

// complete fills what is empty from the cloud's own values.
func (e Endpoints) complete(cloud Cloud) (Endpoints, error) {
	base, ok := clouds[cloud]
	if !ok {
		return e, fmt.Errorf("cloud %q is unknown: use public, usgov, dod, china or custom", cloud)
	}
	fill := func(field *string, value string) {
		if *field == "" {
			*field = value
		}
	}
	fill(&e.Authority, base.Authority)
	fill(&e.Graph, base.Graph)
	fill(&e.Resource, base.Resource)
	fill(&e.GraphVersion, defaultGraphVersion)
	fill(&e.DiscoveryAppID, defaultDiscoveryAppID)
	fill(&e.SCEPVersion, defaultSCEPVersion)
	fill(&e.RevocationVersion, defaultRevocationVersion)
	fill(&e.RevocationService, defaultRevocationService)
	fill(&e.DownloadAction, defaultDownloadAction)
	fill(&e.UploadAction, defaultUploadAction)
	fill(&e.PFXVersion, defaultPFXVersion)
	if len(e.ServiceHosts) == 0 {
		e.ServiceHosts = base.ServiceHosts
	}
	return e, nil
}
