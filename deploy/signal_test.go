package deploy

import "syscall"

// abort is what the watchdog ends a process by.
const abort = syscall.SIGABRT
