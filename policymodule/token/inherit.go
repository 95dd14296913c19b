package token

// Inherit takes over how many challenges each principal had made lately under
// the configuration before. It is called before the first request; both may be
// used then.
func (m *Module) Inherit(from *Module) { m.pace = from.pace }
