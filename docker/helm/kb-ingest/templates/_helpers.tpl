{{- define "kb.name" -}}
{{- if contains .Chart.Name .Release.Name -}}{{ .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else -}}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" }}{{- end -}}
{{- end }}

{{- /* Labels that select the pods of a part: dict "root" $ "part" "parse". They never change. */}}
{{- define "kb.selector" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .part }}
{{- end }}

{{- define "kb.labels" -}}
{{ include "kb.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end }}

{{- define "kb.secret" -}}
{{ .Values.secret.existing | default (include "kb.name" .) }}
{{- end }}

{{- define "kb.serviceAccount" -}}
{{ .Values.serviceAccount.existing | default (include "kb.name" .) }}
{{- end }}

{{- /* The image of a build of torch: dict "root" $ "target" "cpu". */}}
{{- define "kb.image" -}}
{{ .root.Values.image.repository }}:{{ .root.Values.image.tag | default .root.Chart.AppVersion }}-{{ .target }}
{{- end }}

{{- /* A pool of embed workers with the defaults for what it does not set: dict "root" $ "pool" (its values). */}}
{{- define "kb.pool" -}}
{{ mustMergeOverwrite (deepCopy .root.Values.embed.defaults) .pool | toYaml }}
{{- end }}

{{- define "kb.podSecurity" -}}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: {{ . }}
  runAsGroup: {{ . }}
  fsGroup: {{ . }}
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "kb.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{- /* A variable from a key of the Secret: dict "root" $ "name" "KB_API_KEY" "key" (else its name) "optional" true. */}}
{{- define "kb.fromSecret" -}}
- name: {{ .name }}
  valueFrom:
    secretKeyRef: {name: {{ include "kb.secret" .root }}, key: {{ .key | default .name }}, optional: {{ .optional | default false }}}
{{- end }}

{{- /* What every process needs: broker, ledger, staging. */}}
{{- define "kb.environment" -}}
- {name: KB_DATA_DIR, value: /data}
- {name: KB_HEALTH_DIR, value: /tmp/health}
{{- if .Values.redis.bundled }}
{{ include "kb.fromSecret" (dict "root" . "name" "REDIS_PASSWORD" "key" "redis-password") }}
- {name: KB_REDIS_URL, value: "redis://:$(REDIS_PASSWORD)@{{ include "kb.name" . }}-redis:6379/0"}
{{- else }}
{{ include "kb.fromSecret" (dict "root" . "name" "KB_REDIS_URL") }}
{{- end }}
{{- if .Values.postgres.bundled }}
{{ include "kb.fromSecret" (dict "root" . "name" "POSTGRES_PASSWORD" "key" "postgres-password") }}
- {name: KB_DATABASE_URL, value: "postgresql+psycopg://kb:$(POSTGRES_PASSWORD)@{{ include "kb.name" . }}-postgres:5432/kb"}
{{- else }}
{{ include "kb.fromSecret" (dict "root" . "name" "KB_DATABASE_URL") }}
{{- end }}
- {name: KB_STAGING_URL, value: {{ .Values.staging.url | default "/staging" | quote }}}
{{- if .Values.staging.url }}
{{- range list "AWS_ACCESS_KEY_ID" "AWS_SECRET_ACCESS_KEY" "AWS_SESSION_TOKEN" "AWS_ENDPOINT_URL" "AWS_DEFAULT_REGION" }}
{{ include "kb.fromSecret" (dict "root" $ "name" . "optional" true) }}
{{- end }}
{{- end }}
{{- if hasKey .Values.settings "KB_OTLP_ENDPOINT" }}
{{ include "kb.fromSecret" (dict "root" . "name" "KB_OTLP_HEADERS" "optional" true) }}
{{- end }}
{{- end }}

{{- /* Store and model servers, for processes that do not parse. */}}
{{- define "kb.storeEnvironment" -}}
{{- $bundled := printf "http://%s-qdrant:6333" (include "kb.name" .) -}}
- {name: KB_QDRANT_URL, value: {{ ternary $bundled .Values.qdrant.url .Values.qdrant.bundled | quote }}}
{{ include "kb.fromSecret" (dict "root" . "name" "KB_API_KEY") }}
{{- range list "KB_EMBED_API_KEY" "KB_RERANK_API_KEY" "HF_TOKEN" "KB_WEBHOOK_URL" "KB_WEBHOOK_SECRET" }}
{{ include "kb.fromSecret" (dict "root" $ "name" . "optional" true) }}
{{- end }}
{{- end }}

{{- define "kb.envFrom" -}}
envFrom:
  - configMapRef: {name: {{ include "kb.name" . }}}
{{- end }}

{{- /* Mounts and volumes of every process: dict "root" $ "documents" true. */}}
{{- define "kb.mounts" -}}
volumeMounts:
  - {name: tmp, mountPath: /tmp}
  - {name: data, mountPath: /data}
  {{- if .root.Values.staging.volume.enabled }}
  - {name: staging, mountPath: /staging}
  {{- end }}
  {{- if .root.Values.modelCache.existingClaim }}
  - {name: models, mountPath: /data/hf_cache}
  {{- end }}
  {{- if and .documents .root.Values.documents }}
  - {name: documents, mountPath: /documents, readOnly: true}
  {{- end }}
{{- end }}

{{- define "kb.volumes" -}}
volumes:
  - {name: tmp, emptyDir: {sizeLimit: 2Gi}}
  - {name: data, emptyDir: {sizeLimit: 10Gi}}
  {{- with .root.Values.staging.volume }}
  {{- if .enabled }}
  - name: staging
    persistentVolumeClaim: {claimName: {{ .existingClaim | default (printf "%s-staging" (include "kb.name" $.root)) }}}
  {{- end }}
  {{- end }}
  {{- with .root.Values.modelCache.existingClaim }}
  - name: models
    persistentVolumeClaim: {claimName: {{ . }}}
  {{- end }}
  {{- if and .documents .root.Values.documents }}
  - name: documents
    {{- toYaml .root.Values.documents | nindent 4 }}
  {{- end }}
{{- end }}

{{- /* Workers touch heartbeat files; loading a model may take minutes. */}}
{{- define "kb.heartbeats" -}}
startupProbe:
  exec: {command: [python, -m, workers.health, /tmp/health]}
  periodSeconds: 15
  timeoutSeconds: 10
  failureThreshold: 40
livenessProbe:
  exec: {command: [python, -m, workers.health, /tmp/health]}
  periodSeconds: 15
  timeoutSeconds: 10
  failureThreshold: 3
{{- end }}

{{- /* Where the pods of a part may run. */}}
{{- define "kb.placement" -}}
{{- with .nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "kb.pullSecrets" -}}
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- /* Refuse values that would install something that cannot work. */}}
{{- define "kb.check" -}}
{{- if eq (empty .Values.staging.url) (not .Values.staging.volume.enabled) }}
{{- fail "staging: set url (such as s3://bucket/kb), or volume.enabled, and not both: all pods need one place for documents" }}
{{- end }}
{{- if and (not .Values.qdrant.bundled) (not .Values.qdrant.url) }}
{{- fail "qdrant: set url, or bundled" }}
{{- end }}
{{- $scaled := .Values.parse.scaling.enabled }}
{{- range $name, $pool := .Values.embed.pools }}
{{- if $pool }}
{{- if (include "kb.pool" (dict "root" $ "pool" $pool) | fromYaml).scaling.enabled }}{{ $scaled = true }}{{- end }}
{{- end }}
{{- end }}
{{- if and $scaled (not .Values.metrics.enabled) }}
{{- fail "scaling needs metrics.enabled, which gives KEDA the backlog" }}
{{- end }}
{{- end }}
