//go:build tools

// Package tools pins the registry and its client that the tests and the release use.
package tools

import _ "github.com/google/go-containerregistry/cmd/crane"
