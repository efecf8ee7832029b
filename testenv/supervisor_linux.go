package testenv

import "syscall"

// signalOnParentDeath is the second net: it ends a server whose supervisor was
// itself killed. Its folders then stay behind.
func signalOnParentDeath(a *syscall.SysProcAttr, sig syscall.Signal) { a.Pdeathsig = sig }
