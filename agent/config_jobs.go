package agent

import "time"

// Revocation is how a tenant is asked for certificates to revoke, and what may
// be revoked on its word.
type Revocation struct {
	// How often the tenant is asked. Default 60m, which is also the least:
	// Intune answers nothing in between.
	Interval time.Duration `yaml:"interval"`
	// Requests taken at one time, at most 500. Default 100, as Microsoft advises.
	Batch int `yaml:"batch"`
	// Reason of the revocations, as RFC 5280 names it; Intune gives none.
	// Default cessationOfOperation.
	Reason string `yaml:"reason"`
	// Ask only for requests of the CA with this name. Default empty: all are
	// taken, and those of other CAs are left for other connectors.
	Issuer string `yaml:"issuer"`
	// Unsafe: revoke whatever serial number the tenant names, also of
	// certificates that this connector never issued for it. Default false; to
	// take over certificates of another system use "certconnector import-issued".
	AnySerial bool `yaml:"any_serial"`
	// This connector is the only one of the tenant: answer "not found" for CAs
	// that are not in cas. Default false: they are left for other connectors.
	OwnsTenant bool `yaml:"owns_tenant"`
	// Revocations within an hour, after which the work stops until "certconnector
	// jobs resume": a hijacked tenant would revoke everything. Default 500.
	AtMostPerHour int `yaml:"at_most_per_hour"`
	// How long a revocation is tried at a CA that is down before the tenant is
	// told to offer it again. Default 72h.
	GiveUpAfter time.Duration `yaml:"give_up_after"`
	// How results are written: name or number, as Microsoft's two libraries do.
	// Default name.
	Codes string `yaml:"codes"`
}

// SetDefaults gives revocation its defaults; the loader calls it.
func (r *Revocation) SetDefaults() {
	*r = Revocation{
		Interval: time.Hour, Batch: 100, Reason: "cessationOfOperation", AtMostPerHour: 500,
		GiveUpAfter: 72 * time.Hour, Codes: "name",
	}
}

// TenantAPI replaces names and versions of the cloud's actions; empty ones keep
// what is known today. Microsoft has announced that those for revocation change.
type TenantAPI struct {
	// Version of the revocation service. Default 5019-05-05.
	RevocationVersion string `yaml:"revocation_version"`
	// Its name in the list of services. Default PkiConnectorFEService.
	RevocationService string `yaml:"revocation_service"`
	// Path of its download action. Default
	// CertificateAuthorityRequests/downloadRevocationRequests.
	DownloadAction string `yaml:"download_action"`
	// Path of its upload action. Default
	// CertificateAuthorityRequests/uploadRevocationResults.
	UploadAction string `yaml:"upload_action"`
}

// Jobs says where issuance jobs come from. It is an interface of this project,
// not one of Intune: see docs/issuance-jobs.md.
type Jobs struct {
	// Sources of jobs. None by default.
	Sources []JobSource `yaml:"sources"`
}

// JobSource is a queue of issuance jobs: who asks, what it may ask for, and who
// may receive the keys.
type JobSource struct {
	// Name, for logs and the journal. Do not change it while jobs are open.
	Name string `yaml:"name"`
	// The queue that is asked.
	Queue JobQueue `yaml:"queue"`
	// Name of the CA that issues.
	CA string `yaml:"ca"`
	// Certificate template (profile, for an embedded CA). A job never chooses it.
	Template string `yaml:"template"`
	// What a job may ask for.
	Allow JobAllow `yaml:"allow"`
	// Who may receive keys. A job names one of them by the SHA-256 of its
	// certificate and cannot bring its own.
	Recipients []JobRecipient `yaml:"recipients"`
	// How often the queue is asked. Default 1m.
	Interval time.Duration `yaml:"interval"`
	// Jobs taken at one time, at most 500. Default 100.
	Batch int `yaml:"batch"`
	// Certificates within an hour, after which the work stops until "certconnector
	// jobs resume": a hijacked queue would have any number issued. Default 500.
	AtMostPerHour int `yaml:"at_most_per_hour"`
	// How long a CA that is down is tried, and the delivery of a certificate,
	// before a job is reported as failed. Default 72h.
	GiveUpAfter time.Duration `yaml:"give_up_after"`
	// Import each certificate and key into Intune through Microsoft Graph,
	// besides the result. Default none. Intune hands imported certificates to
	// devices only through Microsoft's own connector.
	Import *PFXImport `yaml:"import"`
}

// JobQueue is where jobs are asked for, over mutual TLS.
type JobQueue struct {
	// Base address, as https://jobs.corp.example/api/.
	URL string `yaml:"url"`
	// Our client certificate (extended key usage clientAuth) and its key.
	Certificate string `yaml:"certificate" path:"true"`
	// PEM file with its private key, or a key in a device.
	Key string `yaml:"key" path:"key"`
	// PEM file with the only roots that the queue's certificate may chain to.
	CAFile string `yaml:"ca_file" path:"true"`
	// Proxy towards the queue. Default none: that of the environment is for the
	// cloud alone.
	Proxy *Proxy `yaml:"proxy"`
}

// JobRecipient is somebody whom keys may be sealed to.
type JobRecipient struct {
	// PEM file with the certificate, of an RSA key.
	Certificate string `yaml:"certificate" path:"true"`
}

// JobAllow is what jobs may ask for; anything else is refused.
type JobAllow struct {
	// Subjects, as in allow of an endpoint. Needed.
	Subject []string `yaml:"subject"`
	// Alternative names, as in allow of an endpoint. Default none.
	SAN []string `yaml:"san"`
	// Extended key usages. Default clientAuth.
	EKU []string `yaml:"eku"`
	// Kinds of key: rsa2048, rsa3072, rsa4096, p256, p384. Default rsa2048,
	// rsa3072 and p256.
	Keys []string `yaml:"keys"`
	// Longest life time of a certificate. Default 0s: the template decides.
	MaxValidity time.Duration `yaml:"max_validity"`
}

// PFXImport writes certificates and keys into Intune through Microsoft Graph
// (userPfxCertificates).
type PFXImport struct {
	// Name of the tenant. Its app registration needs
	// DeviceManagementConfiguration.ReadWrite.All and User.Read.All.
	Tenant string `yaml:"tenant"`
	// File with the RSA public key that passwords are sealed to: PEM, or a CNG
	// key blob. Its private key belongs to Microsoft's connector.
	PublicKey string `yaml:"public_key" path:"true"`
	// Name of that key there.
	KeyName string `yaml:"key_name"`
	// Key storage provider that holds it. Default Microsoft Software Key Storage
	// Provider.
	Provider string `yaml:"provider"`
	// oaepSha256, oaepSha384 or oaepSha512. Default oaepSha512.
	Padding string `yaml:"padding"`
	// smimeEncryption, smimeSigning, wifi or unassigned. Default unassigned.
	Purpose string `yaml:"purpose"`
}

// SetDefaults gives a source its defaults; the loader calls it.
func (s *JobSource) SetDefaults() {
	*s = JobSource{
		Interval: time.Minute, Batch: 100, AtMostPerHour: 500, GiveUpAfter: 72 * time.Hour,
		Allow: JobAllow{EKU: []string{"clientAuth"}, Keys: []string{"rsa2048", "rsa3072", "p256"}},
	}
}

// SetDefaults gives an import its defaults; the loader calls it.
func (p *PFXImport) SetDefaults() {
	*p = PFXImport{Provider: "Microsoft Software Key Storage Provider", Padding: "oaepSha512", Purpose: "unassigned"}
}
