//go:build tools

// Package tools pins the tool that signs releases.
package tools

import _ "github.com/sigstore/cosign/v3/cmd/cosign"
