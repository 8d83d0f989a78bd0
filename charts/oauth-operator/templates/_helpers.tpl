{{- define "oauth-operator.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* If the release name contains the chart name, it is not repeated: `oauth-operator`, not
     `oauth-operator-oauth-operator`. 54 characters leave room for the longest suffix, `-metrics`. */}}
{{- define "oauth-operator.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride }}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 54 | trimSuffix "-" }}
{{- else if contains $name .Release.Name }}
{{- .Release.Name | trunc 54 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 54 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "oauth-operator.namespace" -}}
{{- default .Release.Namespace .Values.namespaceOverride }}
{{- end }}

{{/* The prefix of cluster-scoped resources: a second release in another namespace gets resources of its own. */}}
{{- define "oauth-operator.clusterName" -}}
{{- printf "%s-%s" (include "oauth-operator.fullname" .) (include "oauth-operator.namespace" .) }}
{{- end }}

{{/* The chart's own labels win over commonLabels, because selectors depend on them. */}}
{{- define "oauth-operator.labels" -}}
{{- $own := dict
  "helm.sh/chart" (printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-")
  "app.kubernetes.io/version" .Chart.AppVersion
  "app.kubernetes.io/managed-by" .Release.Service }}
{{- merge (include "oauth-operator.selectorLabels" . | fromYaml) $own .Values.commonLabels | toYaml }}
{{- end }}

{{- define "oauth-operator.selectorLabels" -}}
app.kubernetes.io/name: {{ include "oauth-operator.name" . }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{/* On by default if all namespaces are watched: there, authors of integrations and owners of Secrets are different users. */}}
{{- define "oauth-operator.requireAllowedEndpoints" -}}
{{- if kindIs "bool" .Values.egress.requireAllowedEndpoints }}
{{- .Values.egress.requireAllowedEndpoints }}
{{- else }}
{{- empty .Values.watchNamespaces }}
{{- end }}
{{- end }}

{{- /* Whether ClusterOAuthProviders are used. Default: if all namespaces are watched, because it needs cluster-wide rights. */}}
{{- define "oauth-operator.clusterProviders" -}}
{{- if kindIs "invalid" .Values.clusterProviders.enabled }}
{{- empty .Values.watchNamespaces }}
{{- else }}
{{- .Values.clusterProviders.enabled }}
{{- end }}
{{- end }}

{{- define "oauth-operator.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "oauth-operator.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{/* A registry that is set replaces the one in the repository, which is its first part if that has a dot or a port. With a
     digest, the tag is only for readers: the digest decides which image runs. */}}
{{- define "oauth-operator.image" -}}
{{- $registry := default .Values.image.registry (.Values.global).imageRegistry }}
{{- with .Values.image }}
{{- if $registry }}{{ $registry }}/{{ regexReplaceAll "^[^/]*[.:][^/]*/" .repository "" }}{{ else }}{{ .repository }}{{ end }}
{{- if or .tag (not .digest) }}:{{ default $.Chart.AppVersion .tag }}{{ end }}
{{- with .digest }}@{{ . }}{{ end }}
{{- end }}
{{- end }}

{{/* global.imagePullSecrets contains names or objects with a name; both are common in other charts. */}}
{{- define "oauth-operator.imagePullSecrets" -}}
{{- $all := list }}
{{- range concat (default list (.Values.global).imagePullSecrets) .Values.imagePullSecrets }}
{{- $all = append $all (kindIs "string" . | ternary (dict "name" .) .) }}
{{- end }}
{{- with $all | uniq }}
{{- toYaml . }}
{{- end }}
{{- end }}

{{/* The pods of this release, of the same version: without these, a constraint would count pods of others. */}}
{{- define "oauth-operator.topologySpreadConstraints" -}}
{{- $own := dict
  "labelSelector" (dict "matchLabels" (include "oauth-operator.selectorLabels" . | fromYaml))
  "matchLabelKeys" (list "pod-template-hash") }}
{{- $all := list }}
{{- range .Values.topologySpreadConstraints }}
{{- $all = append $all (hasKey . "labelSelector" | ternary . (merge (deepCopy .) $own)) }}
{{- end }}
{{- toYaml $all }}
{{- end }}

{{/*
What the policy allows in target Secrets: the operator's own defaults, and what the values add.
*/}}
{{- define "oauth-operator.allowedTargets" -}}
{{- $types := list "Opaque" "kubernetes.io/basic-auth" "kubernetes.io/tls" "kubernetes.io/dockerconfigjson" "kubernetes.io/ssh-auth" -}}
{{- $keys := list "app.kubernetes.io/name" "app.kubernetes.io/component" "app.kubernetes.io/version" -}}
{{- $prefixes := list -}}
{{- range .Values.targets.allowMetadata -}}
{{- if hasSuffix "/*" . -}}
{{- $prefixes = append $prefixes (trimSuffix "*" .) -}}
{{- else -}}
{{- $keys = append $keys . -}}
{{- end -}}
{{- end -}}
{{- dict "types" (concat $types .Values.targets.allowTypes) "keys" $keys "prefixes" $prefixes | toYaml -}}
{{- end }}

{{/* The endpoint of a ServiceMonitor or PodMonitor, from the chart and the values of that monitor. */}}
{{- define "oauth-operator.metricsEndpoint" -}}
{{- $root := index . 0 }}
{{- $monitor := index . 1 -}}
port: metrics
path: /metrics
{{- if or $root.Values.metrics.auth.enabled $root.Values.metrics.tls.secretName }}
scheme: https
tlsConfig:
  {{- toYaml (default (dict "insecureSkipVerify" true) $monitor.tlsConfig) | nindent 2 }}
{{- end }}
{{- if and $root.Values.metrics.auth.enabled $monitor.bearerTokenSecret }}
authorization:
  credentials:
    {{- toYaml $monitor.bearerTokenSecret | nindent 4 }}
{{- end }}
# The label namespace of a metric is the integration's; without this, Prometheus would overwrite it with the operator's.
honorLabels: true
{{- with $monitor.interval }}
interval: {{ . }}
{{- end }}
{{- with $monitor.scrapeTimeout }}
scrapeTimeout: {{ . }}
{{- end }}
{{- with $monitor.metricRelabelings }}
metricRelabelings:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* The label job of the metrics: that of the ServiceMonitor or PodMonitor of the chart. Empty if neither is enabled. */}}
{{- define "oauth-operator.metricsJob" -}}
{{- if .Values.metrics.prometheusRule.job }}
{{- .Values.metrics.prometheusRule.job }}
{{- else if .Values.metrics.serviceMonitor.enabled }}
{{- include "oauth-operator.fullname" . }}-metrics
{{- else if .Values.metrics.podMonitor.enabled }}
{{- include "oauth-operator.namespace" . }}/{{ include "oauth-operator.fullname" . }}
{{- end }}
{{- end }}
