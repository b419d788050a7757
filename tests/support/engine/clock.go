package main

import (
	"context"
	"syscall"
	"time"
	"unsafe"
)

// clockMonotonic is Linux' CLOCK_MONOTONIC: one clock for every process of the machine.
const clockMonotonic = 1

// epoch is a moment on Go's clock, and the same one on Linux' in nanoseconds. Both run alike.
var epoch, epochNanos = aligned()

// stamp is the present in nanoseconds of CLOCK_MONOTONIC, as Python's time.monotonic_ns.
func stamp() int64 { return stampOf(time.Now()) }

func stampOf(t time.Time) int64 { return epochNanos + int64(t.Sub(epoch)) }

// aligned reads both clocks, and keeps the closest of some pairs of readings.
func aligned() (time.Time, int64) {
	var best time.Time
	var nanos int64
	closest := time.Hour
	for range 100 {
		before := time.Now()
		now := kernelNanos()
		after := time.Now()
		if apart := after.Sub(before); apart < closest {
			closest, best, nanos = apart, before.Add(apart/2), now
		}
	}
	return best, nanos
}

func kernelNanos() int64 {
	var ts syscall.Timespec
	_, _, failed := syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, clockMonotonic, uintptr(unsafe.Pointer(&ts)), 0)
	if failed != 0 {
		panic(failed)
	}
	return ts.Nano()
}

// sleepUntil returns at a moment; false: ctx ended before.
func sleepUntil(ctx context.Context, due time.Time) bool {
	wait := time.Until(due)
	if wait <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
