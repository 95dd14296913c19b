package webserver

import "time"

// WaitForNewcomers is how long the server waits for the first request of
// connections when it stops. It is set before Serve is called.
func (s *Server) WaitForNewcomers(d time.Duration) { s.fresh.patience = d }
