{{/* Words that several objects share. Names are fixed: one installation a namespace. */}}
{{- define "titrate.labels" -}}
app.kubernetes.io/part-of: titrate
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/instance: {{ .Release.Name }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "titrate.image" -}}
{{- $image := index .Values.images .role -}}
{{ $image.repository }}:{{ $image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "titrate.pullSecrets" -}}
{{- with .Values.images.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - {name: {{ . }}}
  {{- end }}
{{- end }}
{{- end }}

{{- define "titrate.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
fsGroup: 10001
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "titrate.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* A volume claim; given: name, volume (values), labels. Kept when the release is removed. */}}
{{- define "titrate.claim" -}}
apiVersion: v1
kind: PersistentVolumeClaim
metadata:
  name: {{ .name }}
  labels: {{- .labels | nindent 4 }}
  annotations: {helm.sh/resource-policy: keep}
spec:
  accessModes: [ReadWriteOnce]
  {{- with .volume.storageClassName }}
  storageClassName: {{ . }}
  {{- end }}
  resources: {requests: {storage: {{ .volume.size }}}}
{{- end }}

{{- define "titrate.upstream" -}}
{{- .Values.gateway.upstream | default (printf "titrate-%s.%s.svc:%v" .Release.Namespace .Values.edge.namespace .Values.edge.port) -}}
{{- end }}

{{- define "titrate.namespaces" -}}
- name: TITRATE_NAMESPACES
  {{- if .Values.operator.namespaces }}
  value: {{ join "," .Values.operator.namespaces }}
  {{- else }}
  valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
  {{- end }}
{{- end }}
