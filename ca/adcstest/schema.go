package adcstest

import "strings"

// column numbers start here; [MS-CSRA], section 3.1.1.1.
const (
	firstRequestColumn     uint32 = 0x1000
	firstCertificateColumn uint32 = 0x2000

	indexedColumn uint32 = 0x10000
)

// viewColumn is a column of the request table.
type viewColumn struct {
	id, kind, size uint32
	name           string
}

// columnList numbers columns as they are added.
type columnList struct {
	next    uint32
	prefix  string
	columns []viewColumn
}

func (l *columnList) add(kind, size uint32, names ...string) {
	for _, n := range names {
		l.columns = append(l.columns, viewColumn{l.next, kind, size, l.prefix + n})
		l.next++
	}
}

// subjectColumns are the parts of a name.
var subjectColumns = strings.Fields("Country Organization OrgUnit CommonName Locality State Title GivenName Initials SurName " +
	"DomainComponent EMail StreetAddress UnstructuredName UnstructuredAddress DeviceSerialNumber")

// schema lists the columns of the request table.
func schema(old bool) []viewColumn { return append(requestColumns(old), certificateColumns(old)...) }

func requestColumns(old bool) []viewColumn {
	l := columnList{next: firstRequestColumn, prefix: "Request."}
	add, names := l.add, subjectColumns
	add(typeLong|indexedColumn, 4, "RequestID")
	add(typeBinary, 65536, "RawRequest", "RawArchivedKey")
	add(typeString, 8192, "KeyRecoveryHashes")
	add(typeBinary, 16384, "RawOldCertificate")
	add(typeString, 32768, "RequestAttributes")
	add(typeLong, 4, "RequestType", "RequestFlags", "StatusCode")
	add(typeLong|indexedColumn, 4, "Disposition")
	add(typeString, 8192, "DispositionMessage")
	add(typeDate|indexedColumn, 8, "SubmittedWhen", "ResolvedWhen")
	add(typeDate, 8, "RevokedWhen")
	add(typeDate|indexedColumn, 8, "RevokedEffectiveWhen")
	add(typeLong, 4, "RevokedReason")
	add(typeString|indexedColumn, 2048, "RequesterName", "CallerName")
	add(typeString, 8192, "SignerPolicies", "SignerApplicationPolicies")
	add(typeLong, 4, "Officer")
	add(typeString, 8192, "DistinguishedName")
	add(typeBinary, 4096, "RawName")
	add(typeString, 8192, names...)
	if !old {
		add(typeBinary, 4096, "AttestationChallenge")
		add(typeString, 144, "EndorsementKeyHash", "EndorsementCertificateHash")
		add(typeBinary, 16384, "RawPrecertificate")
		add(typeLong, 4, "CRLPartitionIndex")
		add(typeBinary, 16384, "LinterCertificate")
	}
	return l.columns
}

// certificateColumns: PrivateKeyFlags came with the successor of 2008 R2 and
// moved all that follows it.
func certificateColumns(old bool) []viewColumn {
	l := columnList{next: firstCertificateColumn}
	add, names := l.add, subjectColumns
	add(typeLong|indexedColumn, 4, "RequestID")
	add(typeBinary, 16384, "RawCertificate")
	add(typeString|indexedColumn, 128, "CertificateHash")
	add(typeString|indexedColumn, 254, "CertificateTemplate")
	add(typeLong, 4, "EnrollmentFlags", "GeneralFlags")
	if !old {
		add(typeLong, 4, "PrivateKeyFlags")
	}
	add(typeString|indexedColumn, 128, "SerialNumber")
	add(typeLong, 4, "IssuerNameId")
	add(typeDate, 8, "NotBefore")
	add(typeDate|indexedColumn, 8, "NotAfter")
	add(typeString, 128, "SubjectKeyIdentifier")
	add(typeBinary, 4096, "RawPublicKey")
	add(typeLong, 4, "PublicKeyLength")
	add(typeString, 254, "PublicKeyAlgorithm")
	add(typeBinary, 4096, "RawPublicKeyAlgorithmParameters")
	if !old {
		add(typeLong, 4, "PublishExpiredCertInCRL")
	}
	add(typeString|indexedColumn, 2048, "UPN")
	add(typeString, 8192, "DistinguishedName")
	add(typeBinary, 4096, "RawName")
	add(typeString, 8192, names...)
	return l.columns
}
