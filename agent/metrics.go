package agent

import (
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/certconnector/certconnector/agent/enroll"
	"github.com/certconnector/certconnector/agent/jobs"
	"github.com/certconnector/certconnector/agent/journal"
	"github.com/certconnector/certconnector/agent/outbox"
	"github.com/certconnector/certconnector/internal/admission"
	"github.com/certconnector/certconnector/internal/metrics"
	"github.com/certconnector/certconnector/intune"
	"github.com/certconnector/certconnector/scep"
	"github.com/certconnector/certconnector/scep/scephttp"
)

// none is the value of a label that does not apply.
const none = "none"

// meter counts what happens in the parts, and remembers when neighbours were
// last heard of. What has a state of its own is read at a scrape: see
// meter.sample.
type meter struct {
	*metrics.Registry
	clock func() time.Time
	cloud contacts // by tenant and call
	ca    contacts // by CA and call
	take  func()   // has this meter read instead of the one of the configuration before

	requests, replies, limited *metrics.Counter
	exchanges                  *metrics.Histogram
	stages                     *metrics.Counter
	staged                     *metrics.Histogram
	deliveries                 *metrics.Counter
	cloudCalls, caCalls        *metrics.Counter
	cloudTook, caTook          *metrics.Histogram
}

var (
	_ scephttp.Observer = (*meter)(nil)
	_ enroll.Observer   = (*meter)(nil)
)

// newMeter makes the instruments. Every name that becomes a label is in the
// configuration.
func newMeter(cfg Config, o Options) *meter {
	m := &meter{clock: o.Clock}
	if o.from != nil {
		m.Registry = o.from.meter.Next()
	} else {
		m.Registry = metrics.New(metrics.Build{Version: o.Version})
	}
	names := namesOf(cfg)
	endpoint := metrics.Label{Name: "endpoint", Values: slices.Concat(names.endpoints, []string{none})}
	operation := metrics.Label{Name: "operation", Values: []string{"GetCACaps", "GetCACert", "GetNextCACert", "PKIOperation", "unknown", none}}

	m.requests = m.Counter("scep_requests", "HTTP requests to SCEP endpoints, by the status of the answer.",
		endpoint, operation, metrics.Label{Name: "status", Values: slices.Collect(maps.Values(statuses))})
	m.exchanges = m.Histogram("scep_request", "Time from a SCEP request to the end of its answer.", endpoint, operation)
	m.replies = m.Counter("scep_replies", "SCEP replies (CertRep), by their status or failInfo.", endpoint,
		metrics.Label{Name: "message_type", Values: spelt(scep.PKCSReq, scep.RenewalReq, scep.CertPoll, scep.GetCert, scep.GetCRL)},
		metrics.Label{Name: "result", Values: append(spelt(scep.Success, scep.Pending),
			spelt(scep.BadAlg, scep.BadMessageCheck, scep.BadRequest, scep.BadTime, scep.BadCertID)...)})
	m.limited = m.Counter("scep_limited", "SCEP messages that a limit turned away, by the limit.", endpoint,
		metrics.Label{Name: "limit", Values: append(reasons(), "failures", "held", "large")})

	stage := metrics.Label{Name: "stage", Values: texts(enroll.Stages)}
	m.stages = m.Counter("enroll_stages", "Stages of enrolments that are over, by how they ended.", endpoint, stage,
		metrics.Label{Name: "result", Values: texts(enroll.Results)})
	m.staged = m.Histogram("enroll_stage", "Time that a stage of an enrolment took.", endpoint, stage)

	m.deliveries = m.Counter("outbox_deliveries", "Attempts to deliver what is owed, by how they ended.",
		metrics.Label{Name: "owed", Values: owedKinds()},
		metrics.Label{Name: "neighbour", Values: slices.Concat(names.endpoints, names.cas)},
		metrics.Label{Name: "result", Values: texts(outbox.Endings)})

	tenant, call := metrics.Label{Name: "tenant", Values: names.tenants}, metrics.Label{Name: "call", Values: cloudCalls(cfg)}
	m.cloudCalls = m.Counter("intune_calls", "Exchanges with Entra ID, Graph and Intune, by how they ended.", tenant, call,
		metrics.Label{Name: "result", Values: texts(intune.Classes)})
	m.cloudTook = m.Histogram("intune_call", "Time that an exchange with Entra ID, Graph or Intune took.", tenant, call)

	caName, caCall := metrics.Label{Name: "ca", Values: names.cas}, metrics.Label{Name: "call", Values: caCalls}
	m.caCalls = m.Counter("ca_calls", "Calls to CAs, by how they ended.", caName, caCall, metrics.Label{Name: "result", Values: caResults})
	m.caTook = m.Histogram("ca_call", "Time that a call to a CA took, its turn there included where the call is issue.", caName, caCall)

	m.last("intune_last_success_timestamp_seconds", "When the cloud last answered a call with success, in Unix time.", &m.cloud, tenant, call)
	m.last("ca_last_answer_timestamp_seconds", "When a CA last answered a call, be it with a refusal, in Unix time.", &m.ca, caName, caCall)
	m.take = func() {
		if o.from != nil {
			m.cloud.follow(&o.from.meter.cloud, names.tenants, func(name string) bool { return cfg.sameTenant(o.from.cfg, name) })
			m.ca.follow(&o.from.meter.ca, names.cas, func(name string) bool { return cfg.sameCA(o.from.cfg, name) })
			m.Commit()
		}
		m.zero(cfg, names)
	}
	if o.from == nil {
		m.take()
	}
	return m
}

// Metrics are the metrics that the status face shows, without those of the Go
// runtime and the process.
func (a *Agent) Metrics() []metrics.Description { return a.meter.Descriptions() }

// zero begins the series whose first step matters to an alert.
func (m *meter) zero(cfg Config, n nameSet) {
	var told []string
	for _, e := range cfg.Endpoints {
		if e.Policy.Vouched() {
			told = append(told, e.Name)
		}
	}
	for _, f := range cfg.RegistrationPoint.FrontEnds {
		if f.ReleasesItself {
			for _, tenant := range f.Tenants {
				told = append(told, enroll.ReportedName(f.Name, tenant))
			}
		}
	}
	for _, name := range told {
		for _, end := range outbox.Endings {
			m.deliveries.Zero(owed(journal.OweSuccess), name, string(end))
		}
	}
	for _, tenant := range n.tenants {
		for _, call := range slices.Concat(intune.ValidateCalls, intune.NotifyCalls) {
			for _, class := range []intune.Class{intune.ClassOK, intune.ClassFailed, intune.ClassNetwork, intune.ClassRefused} {
				m.cloudCalls.Zero(tenant, call, string(class))
			}
		}
	}
}

// nameSet is what the configuration calls things.
type nameSet struct {
	endpoints, tenants, cas, sources []string

	polled []string // of sources: those that are asked for jobs
}

func namesOf(cfg Config) nameSet {
	var n nameSet
	for _, e := range cfg.Endpoints {
		n.endpoints = append(n.endpoints, e.Name)
	}
	for _, f := range cfg.RegistrationPoint.FrontEnds {
		for _, tenant := range f.Tenants {
			n.endpoints = append(n.endpoints, enroll.ReportedName(f.Name, tenant))
		}
	}
	for _, t := range cfg.Tenants {
		n.tenants = append(n.tenants, t.Name)
		n.sources = append(n.sources, jobs.RevocationSource(t.Name))
		if t.Revocation != nil {
			n.polled = append(n.polled, jobs.RevocationSource(t.Name))
		}
	}
	for _, c := range cfg.CAs {
		n.cas = append(n.cas, c.Name)
	}
	for _, s := range cfg.Jobs.Sources {
		n.endpoints = append(n.endpoints, jobs.QueueName(s.Name))
		n.sources = append(n.sources, jobs.QueueName(s.Name), jobs.UndeliveredSource(s.Name))
		n.polled = append(n.polled, jobs.QueueName(s.Name))
	}
	n.sources = append(n.sources, jobs.OperatorSource)
	return n
}

// texts are values of a closed set as labels.
func texts[T ~string](all []T) []string {
	list := make([]string, len(all))
	for i, v := range all {
		list[i] = string(v)
	}
	return list
}

func spelt[T interface{ String() string }](all ...T) []string {
	list := make([]string, len(all))
	for i, v := range all {
		list[i] = v.String()
	}
	return list
}

func reasons() []string {
	return texts([]admission.Reason{admission.QueueFull, admission.TooSlow, admission.DeadlinePassed, admission.EndpointLimit, admission.SourceLimit})
}

// owed is the label of a kind of debt, as success_notification.
func owed(k journal.DebtKind) string { return strings.ReplaceAll(k.String(), " ", "_") }

func owedKinds() (list []string) {
	for k := journal.OweSuccess; k <= journal.OweRevocation; k++ {
		list = append(list, owed(k))
	}
	return list
}

// cloudCalls are the calls of package intune, with those whose names the
// configuration has.
func cloudCalls(cfg Config) []string {
	list := slices.Clone(intune.Calls)
	for _, t := range cfg.Tenants {
		for _, action := range []string{t.API.DownloadAction, t.API.UploadAction} {
			if action != "" {
				list = append(list, action[strings.LastIndexByte(action, '/')+1:])
			}
		}
	}
	return list
}

// statuses are what package scephttp answers with, as labels; 499 is a device
// that hung up.
var statuses = func() map[int]string {
	all := map[int]string{}
	for _, s := range []int{
		http.StatusOK, http.StatusBadRequest, http.StatusForbidden, http.StatusNotFound, http.StatusMethodNotAllowed,
		http.StatusRequestEntityTooLarge, http.StatusRequestURITooLong, 499, http.StatusInternalServerError, http.StatusServiceUnavailable,
	} {
		all[s] = strconv.Itoa(s)
	}
	return all
}()
