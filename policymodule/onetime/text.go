package onetime

import (
	"crypto/md5"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"html"
	"time"
	"unicode/utf16"
)

// Charset is how the page is encoded.
type Charset string

// The charsets. NDES sends UTF-16LE, whatever its page says of itself. With a
// byte order mark it is read by programs that look for one and by those that
// assume little-endian order alike.
const (
	UTF16LEWithBOM Charset = "utf16le-bom"
	UTF16LE        Charset = "utf16le"
	UTF8           Charset = "utf8"
)

// ParseCharset reads a charset; "" is utf16le-bom.
func ParseCharset(s string) (Charset, error) {
	switch c := Charset(s); c {
	case "":
		return UTF16LEWithBOM, nil
	case UTF16LEWithBOM, UTF16LE, UTF8:
		return c, nil
	}
	return "", fmt.Errorf("%q is no charset of the page; want utf16le-bom, utf16le or utf8", s)
}

func (c Charset) encode(text string) []byte {
	if c == UTF8 {
		return []byte(text)
	}
	units := utf16.Encode([]rune(text))
	b := make([]byte, 0, 2*len(units)+2)
	if c == UTF16LEWithBOM {
		b = binary.LittleEndian.AppendUint16(b, 0xfeff)
	}
	for _, u := range units {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return b
}

// The texts that programs look for, letter for letter those of NDES. The rest
// of the page is ours. Before the password there must be no run of 16 or more
// hexadecimal digits: scripts take the first.
const (
	textTitle        = "Network Device Enrollment Service"
	textThumbprint   = "The thumbprint (hash value) for the CA certificate is: <B> %s </B>"
	textPassword     = "The enrollment challenge password is: <B> %s </B> <P> "
	textLifetime     = "This password can be used only once and will expire within %d minutes."
	textFull         = "The password cache is full."
	textNoPermission = "You do not have sufficient permission to enroll with SCEP."
)

const (
	head = "<HTML><HEAD><META HTTP-EQUIV=\"Content-Type\" CONTENT=\"text/html; charset=UTF-8\">\r\n<TITLE>" + textTitle + "</TITLE></HEAD>\r\n<BODY>\r\n<H1>" + textTitle + "</H1>\r\n"
	foot = "</BODY></HTML>\r\n"
)

// passwordPage shows a password. Whether it can be used once, for so long, is
// said directly behind it, in the same line.
func passwordPage(ca *x509.Certificate, password string, lifetime time.Duration) string {
	return head +
		"<P> " + fmt.Sprintf(textThumbprint, thumbprint(ca)) + " <P>\r\n" +
		fmt.Sprintf(textPassword, html.EscapeString(password)) + fmt.Sprintf(textLifetime, int(lifetime.Minutes())) + "\r\n" +
		"<P> Every device needs a password of its own. Load this page again for the next one.\r\n" + foot
}

// fullPage says that no more passwords are made for now.
func fullPage() string {
	return head + "<P> " + textFull + "\r\n<P> Wait until passwords were used or have expired, then try again.\r\n" + foot
}

// noPermissionPage says that the caller is known and may have no password.
func noPermissionPage() string { return head + "<P> " + textNoPermission + "\r\n" + foot }

// thumbprint is the MD5 of a certificate as NDES shows it: four groups of
// eight digits. It protects nothing; programs compare it with what they fetch.
func thumbprint(ca *x509.Certificate) string {
	sum := md5.Sum(ca.Raw)
	return fmt.Sprintf("%X %X %X %X", sum[0:4], sum[4:8], sum[8:12], sum[12:16])
}
