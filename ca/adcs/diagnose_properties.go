package adcs

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"strings"

	"github.com/certconnector/certconnector/ca"
)

const (
	propertyCAType = 10
	kindLong       = 1

	// Types of CAs (ENUM_CATYPES, [MS-WCCE], section 2.2.2.4).
	typeEnterpriseRoot = 0
	typeEnterpriseSub  = 1
)

// diagnoseProperties reads what the CA tells of itself.
func (c *CA) diagnoseProperties(ctx context.Context, want ca.Wanted) []ca.Finding {
	var list []ca.Finding
	for _, do := range []func(context.Context, ca.Wanted) ([]ca.Finding, error){c.diagnoseChain, c.diagnoseHost, c.diagnoseType, c.diagnoseTemplates} {
		bounded, cancel := context.WithTimeout(ctx, ca.ProbeTimeout)
		found, err := do(bounded, want)
		cancel()
		if errors.Is(err, ca.ErrUnavailable) {
			return append(list, c.diagnoseError("reading properties", err)...)
		}
		if err != nil {
			found = []ca.Finding{ca.Found(ca.Warning, ca.CheckReach, "", "%s", briefly(err))}
			if p, ok := errors.AsType[*problem](err); ok && p.code != 0 {
				found[0].Fix = ca.Remedy(p.code)
			}
		}
		list = append(list, found...)
	}
	return list
}

func (c *CA) diagnoseChain(ctx context.Context, want ca.Wanted) ([]ca.Finding, error) {
	shown, err := c.readChain(ctx)
	if p, ok := errors.AsType[*problem](err); ok && p.kind == nil && p.code == 0 {
		return []ca.Finding{ca.Found(ca.Failure, ca.CheckChain, "check the chain file", "%s", briefly(err))}, nil
	}
	if err != nil {
		return nil, err
	}
	return ca.CompareChain(shown, want.Chain, c.now()), nil
}

// diagnoseHost compares the host's name with the one that we sign in to.
func (c *CA) diagnoseHost(ctx context.Context, _ ca.Wanted) ([]ca.Finding, error) {
	value, err := c.property(ctx, "reading the host's name", propertyDNSName, 0, kindString)
	if err != nil {
		return nil, err
	}
	configured := strings.TrimPrefix(c.target, "host/")
	if host := utf16Text(value); !strings.EqualFold(host, configured) {
		return []ca.Finding{ca.Found(ca.Warning, ca.CheckName, "use the host's own name in config, unless it is an alias with a service principal name",
			"the CA's host calls itself %q; configured is %q", clean(host), configured)}, nil
	}
	return nil, nil
}

// diagnoseType tells enterprise CAs from standalone ones. The property is a
// CAINFO structure, whose second number is the type; the COM interface and
// some servers give the type alone.
func (c *CA) diagnoseType(ctx context.Context, _ ca.Wanted) ([]ca.Finding, error) {
	value, err := c.property(ctx, "reading the CA's type", propertyCAType, 0, kindLong)
	if err != nil {
		return nil, err
	}
	var kind uint32
	switch {
	case len(value) >= 8:
		kind = binary.LittleEndian.Uint32(value[4:])
	case len(value) >= 4:
		kind = binary.LittleEndian.Uint32(value)
	default:
		return []ca.Finding{ca.Found(ca.Warning, ca.CheckType, "", "the CA's type does not read: %d bytes", len(value))}, nil
	}
	if kind != typeEnterpriseRoot && kind != typeEnterpriseSub {
		return []ca.Finding{ca.Found(ca.Warning, ca.CheckType, "use an enterprise CA: a standalone one knows no templates, gives certificates the purposes that requests ask for, and parks each request by default",
			"this is a standalone CA (type %d)", kind)}, nil
	}
	return []ca.Finding{ca.Found(ca.OK, ca.CheckType, "", "this is an enterprise CA")}, nil
}

func (c *CA) diagnoseTemplates(ctx context.Context, want ca.Wanted) ([]ca.Finding, error) {
	value, err := c.property(ctx, "reading the templates", propertyTemplates, 0, kindString)
	if p, ok := errors.AsType[*problem](err); ok && p.code == codePropertyEmpty {
		value, err = nil, nil // none is published, or the CA is a standalone one
	}
	if err != nil {
		return nil, err
	}
	published := strings.Split(strings.ReplaceAll(utf16Text(value), "\r", ""), "\n") // name, OID, name, OID, …
	var list []ca.Finding
	for _, w := range want.Templates {
		if w.Name == "" {
			list = append(list, w.Named())
			continue
		}
		is := slices.ContainsFunc(published, func(name string) bool { return strings.EqualFold(name, w.Name) })
		list = append(list, w.Published(is))
		if is {
			list = append(list, ca.Found(ca.Note, ca.CheckTemplateEnroll, "", "rights, purposes and names of template %q are in the directory, not at the CA: compare with certutil -template -v, "+
				"or use a policy service (wstep), which tells them", w.Name))
		}
	}
	return list, nil
}
