package main

import (
	"regexp"
	"strings"
	"time"
)

// tagged is what git describe says near a tag: v1.2.3, v1.2.3-rc.1,
// v1.2.3-5-g95db447, any of them with -dirty.
var tagged = regexp.MustCompile(`^v?(\d+\.\d+\.\d+)(-[a-z][a-z0-9.]*?)?(-\d+-g[0-9a-f]+)?$`)

// packageVersion orders versions as dpkg and rpm compare them: a candidate
// before its release (~), a build after a tag behind it (+), one without any
// tag before all releases and by date.
func packageVersion(describe string, when time.Time) string {
	clean, dirty := strings.CutSuffix(describe, "-dirty")
	m := tagged.FindStringSubmatch(clean)
	if m == nil {
		return "0.0.0~git" + when.Format("20060102.150405") + "." + strings.ReplaceAll(describe, "-", ".")
	}
	v := m[1]
	if m[2] != "" {
		v += "~" + m[2][1:]
	}
	if dirty {
		m[3] += "-dirty"
	}
	if m[3] != "" {
		v += "+" + strings.ReplaceAll(m[3][1:], "-", ".")
	}
	return v
}
