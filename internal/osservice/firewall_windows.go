package osservice

import (
	"errors"

	"golang.org/x/sys/windows/registry"
)

// firewallRules is the registry key of this computer's own rules. Those of
// group policies are elsewhere.
const firewallRules = `SYSTEM\CurrentControlSet\Services\SharedAccess\Parameters\FirewallPolicy\FirewallRules`

// FirewallRules returns the rules of the firewall of Windows, as [MS-GPFAS]
// writes them. A computer without one has none.
func (Manager) FirewallRules() ([]string, error) {
	k, err := registry.OpenKey(registry.LOCAL_MACHINE, firewallRules, registry.QUERY_VALUE)
	if errors.Is(err, registry.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, explain("looking for the firewall's rules", err)
	}
	defer func() { _ = k.Close() }() // only read
	names, err := k.ReadValueNames(-1)
	if err != nil {
		return nil, explain("listing the firewall's rules", err)
	}
	var list []string
	for _, name := range names {
		text, _, err := k.GetStringValue(name)
		switch {
		case errors.Is(err, registry.ErrNotExist), errors.Is(err, registry.ErrUnexpectedType): // removed meanwhile, or no rule
		case err != nil:
			return nil, explain("reading a rule of the firewall", err)
		default:
			list = append(list, text)
		}
	}
	return list, nil
}
