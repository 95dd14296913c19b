package control

import "golang.org/x/sys/windows"

// errNoSockets is what systems without unix sockets answer: Windows Server
// 2016 and Wine. Since 2019 Windows has them.
var errNoSockets error = windows.WSAEAFNOSUPPORT
