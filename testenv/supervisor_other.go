//go:build !linux

package testenv

import "syscall"

// signalOnParentDeath does nothing where the kernel offers no such thing.
func signalOnParentDeath(*syscall.SysProcAttr, syscall.Signal) {}
