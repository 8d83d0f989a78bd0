//go:build tools

// Package tools pins the Prometheus that scrapes the operator in tests, and promtool, which checks its rules.
package tools

import (
	_ "github.com/prometheus/prometheus/cmd/prometheus"
	_ "github.com/prometheus/prometheus/cmd/promtool"
)
