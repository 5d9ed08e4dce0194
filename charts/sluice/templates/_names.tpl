{{- define "sluice.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 52 | trimSuffix "-" }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 52 | trimSuffix "-" }}{{ end -}}
{{- end }}

{{- define "sluice.selector" -}}
app.kubernetes.io/name: sluice
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "sluice.labels" -}}
{{ include "sluice.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "sluice.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}{{ .Values.serviceAccount.name | default (include "sluice.name" .) }}{{ else }}{{ .Values.serviceAccount.name | default "default" }}{{ end -}}
{{- end }}

{{/* Excluded namespaces, as a JSON list; empty if watchNamespaces is set. */}}
{{- define "sluice.excludedNamespaces" -}}
{{- $names := list }}
{{- if not .Values.watchNamespaces }}
{{- range .Values.excludeNamespaces }}{{ $names = append $names (tpl . $) }}{{ end }}
{{- end }}
{{- $names | uniq | toJson }}
{{- end }}

{{/* The rights of the operator in watched namespaces. It uses every verb: crates/operator/tests/faults/rights.rs. */}}
{{- define "sluice.rules" -}}
- apiGroups: [sluice.dev]
  resources: [streamjobs]
  verbs: [get, list, watch]
- apiGroups: [sluice.dev]
  resources: [streamjobs/status]
  verbs: [patch]
# Owner references with blockOwnerDeletion need this where OwnerReferencesPermissionEnforcement is on (OpenShift).
- apiGroups: [sluice.dev]
  resources: [streamjobs/finalizers]
  verbs: [update]
- apiGroups: [apps]
  resources: [deployments, statefulsets]
  verbs: [get, list, watch, create, patch]
- apiGroups: [apps]
  resources: [deployments/scale, statefulsets/scale]
  verbs: [patch]
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get, create, patch]
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch]
# The annotation controller.kubernetes.io/pod-deletion-cost, which chooses the workers that leave in a scale-down.
- apiGroups: [""]
  resources: [pods]
  verbs: [patch]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- with .Values.extraRules }}
{{ toYaml . }}
{{- end }}
{{- end }}
