package agent

import (
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/certconnector/certconnector/internal/keys"
)

// Config is everything an operator can choose, as the configuration file says
// it: one file, one tree. Its comments are also the file's documentation and
// the descriptions of its JSON Schema.
type Config struct {
	// Folder for what the service itself keeps: journal, local key, control
	// socket. Only the service's account should be able to read it. Default
	// /var/lib/certconnector, on Windows %ProgramData%\certconnector\state.
	StateDir string `yaml:"state_dir" path:"true"`
	// Addresses that the service answers on. At least one.
	Listeners []Listener `yaml:"listeners"`
	// Intune tenants that vouch for requests. None where no endpoint uses Intune.
	Tenants []Tenant `yaml:"tenants"`
	// Certificate authorities that issue. At least one, but for a service that
	// only is a registration point for others.
	CAs []CA `yaml:"cas"`
	// SCEP endpoints that devices speak to. At least one, but for a service that
	// only is a registration point for others.
	Endpoints []Endpoint `yaml:"endpoints"`
	// Who may have challenges made over HTTP: MDM servers. None by default.
	Principals []Principal `yaml:"principals"`
	// What this service answers to other front ends: a certconnector without an
	// Intune credential, or Microsoft's NDES with our policy module.
	RegistrationPoint RegistrationPoint `yaml:"registration_point"`
	// Sources of issuance jobs, an interface of our own. None by default.
	Jobs Jobs `yaml:"jobs"`
	// Where enrolments are recorded.
	Journal Journal `yaml:"journal"`
	// How secrets are kept at rest.
	Secrets Secrets `yaml:"secrets"`
	// Private keys in devices, and where new ones are made.
	Keys Keys `yaml:"keys"`
	// The local control socket behind the commands.
	Control Control `yaml:"control"`
	// What a stranger may cost us.
	Limits Limits `yaml:"limits"`
	// What is logged, how and where.
	Log Log `yaml:"log"`
	// How long a stopping service waits for requests in flight and for
	// notifications that are under way. Default 15s; systemd and the Windows
	// service manager lose patience after 20s.
	ShutdownGrace time.Duration `yaml:"shutdown_grace"`
}

// Journal chooses where enrolments are recorded.
type Journal struct {
	// An embedded SQLite database: the default, and the only kind in this version.
	SQLite *SQLite `yaml:"sqlite"`
	// How long after the journal was restored from a backup challenges are
	// refused whose age nobody here can tell, as Intune's. Default 1h, their
	// life. Challenges made here before the restore are refused for good.
	RestoreQuarantine time.Duration `yaml:"restore_quarantine"`
}

// SQLite is the embedded journal.
type SQLite struct {
	// The database file. Default "journal.db" in state_dir. It must be on a
	// local disk: locks and syncs of network file systems are not to be trusted.
	Path string `yaml:"path" path:"true"`
	// A small file that tells whether the database is older than it should be,
	// as after a restore from a backup. Default "journal.witness" in state_dir.
	// Leave it out of backups; delete it before a start to declare a restore
	// that it could not notice.
	Witness string `yaml:"witness" path:"true"`
}

// Secrets says how secrets are kept at rest.
type Secrets struct {
	// File with the 32 bytes that seal CSRs in the journal and digest
	// challenges; "certconnector init" makes it. Default "local.key" in
	// state_dir. Losing it makes unsettled enrolments unreadable.
	LocalKey string `yaml:"local_key" path:"true"`
}

// Control is the local control socket.
type Control struct {
	// Path of the socket; empty is "control.sock" in state_dir. Most systems
	// allow about 100 bytes. Only root and the service's own account may use it.
	Socket string `yaml:"socket" path:"true"`
}

// Log says what is logged.
type Log struct {
	// debug, info, warn or error. Default info, which is what an operator wants
	// in a year's file.
	Level string `yaml:"level"`
	// json for machines, console for people. Default json.
	Format string `yaml:"format"`
	// File to append to. Default empty: standard error, which systemd and
	// containers collect.
	File string `yaml:"file" path:"true"`
	// A file of its own for audit lines: one a decision. Default empty: they
	// go where the other lines go, under the logger name "audit".
	AuditFile string `yaml:"audit_file" path:"true"`
}

// Limits bounds what a stranger may cost the service. They hold for each
// listener that devices reach.
type Limits struct {
	// Longest request header in bytes, the URL included. Default 131072: a
	// PKIOperation by GET carries the message in the URL, 65534 bytes are usual.
	HeaderBytes int `yaml:"header_bytes"`
	// Longest request body in bytes. Default 2097152.
	BodyBytes int64 `yaml:"body_bytes"`
	// Requests that may do cryptography at one time; others wait a moment and
	// then get 503. Default 0: twice the number of processors.
	Concurrent int `yaml:"concurrent"`
	// Requests that may wait for their turn at cryptography, the one whose
	// challenge ends first before the others. When more come, the one with the
	// most time left is told to come again. Default 0: three quarters of held.
	Queue int `yaml:"queue"`
	// How long one of them waits at most. Default 5s; at once when it can be told
	// that its turn would not come.
	Wait time.Duration `yaml:"wait"`
	// How long a challenge is good, as far as that order is concerned. Default 1h.
	ChallengeLife time.Duration `yaml:"challenge_life"`
	// Exchanges that may be under way at one time, held ones included; more get
	// 503. Default 2000.
	Held int `yaml:"held"`
	// How many of them one source address may have. A NAT, or a proxy that no
	// trusted_proxies names, is one source; addresses of this machine have no
	// limit. Default 0: half of held; -1: no limit.
	PerSource int `yaml:"per_source"`
	// Connections open at one time on one listener; more wait to be accepted.
	// Default 4096.
	Connections int `yaml:"connections"`
	// Unreadable or refused messages a minute from one source address before
	// it gets 503. Default 60. A NAT, or a proxy that no trusted_proxies names, is
	// one source: raise it there.
	FailuresPerMinute int `yaml:"failures_per_minute"`
	// Time for the request's header to arrive. Default 10s.
	ReadHeaderTimeout time.Duration `yaml:"read_header_timeout"`
	// Time for the whole request to arrive. Default 30s.
	ReadTimeout time.Duration `yaml:"read_timeout"`
	// Time from the request's header to the end of the answer. Default 90s; must be
	// longer than every answer_within.
	WriteTimeout time.Duration `yaml:"write_timeout"`
	// Time that an idle connection is kept. Default 2m.
	IdleTimeout time.Duration `yaml:"idle_timeout"`
}

// SetDefaults gives the tree its defaults; the loader calls it before it
// reads a file.
func (c *Config) SetDefaults() {
	*c = Config{
		StateDir:      DefaultStateDir(),
		Journal:       Journal{SQLite: &SQLite{}, RestoreQuarantine: time.Hour},
		Keys:          Keys{New: string(keys.File), TPM: KeysTPM{Device: keys.DefaultTPM}},
		Limits:        defaultLimits(),
		Log:           Log{Level: "info", Format: "json"},
		ShutdownGrace: 15 * time.Second,
	}
}

// Defaults returns a configuration in which nothing was chosen. It does not
// validate: it has no listener, no CA and no endpoint.
func Defaults() Config {
	var c Config
	c.SetDefaults()
	return c
}

func defaultLimits() Limits {
	return Limits{
		HeaderBytes:       128 << 10,
		BodyBytes:         2 << 20,
		Held:              2000,
		Connections:       4096,
		FailuresPerMinute: 60,
		Wait:              5 * time.Second,
		ChallengeLife:     time.Hour,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      90 * time.Second,
		IdleTimeout:       2 * time.Minute,
	}
}

// DefaultStateDir is the folder that a service of this system keeps its state in.
func DefaultStateDir() string {
	if runtime.GOOS == "windows" {
		return filepath.Join(programData(), "certconnector", "state")
	}
	return "/var/lib/certconnector"
}

// DefaultConfigPath is where the configuration file of this system is.
func DefaultConfigPath() string {
	if runtime.GOOS == "windows" {
		return filepath.Join(programData(), "certconnector", "certconnector.yaml")
	}
	return "/etc/certconnector/certconnector.yaml"
}

// programData is the folder for all users' data; a service may start without
// the variable.
func programData() string {
	if dir := os.Getenv("ProgramData"); dir != "" {
		return dir
	}
	return `C:\ProgramData`
}
