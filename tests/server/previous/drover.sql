BEGIN TRANSACTION;
CREATE TABLE alert_conditions (
	"key" VARCHAR NOT NULL, 
	opening VARCHAR NOT NULL, 
	event VARCHAR NOT NULL, 
	subject VARCHAR NOT NULL, 
	severity VARCHAR NOT NULL, 
	title VARCHAR NOT NULL, 
	text VARCHAR NOT NULL, 
	remedy VARCHAR, 
	since FLOAT NOT NULL, 
	news BOOLEAN NOT NULL, 
	notified_at FLOAT, 
	PRIMARY KEY ("key")
);
INSERT INTO "alert_conditions" VALUES('text','text','text','text','text','text','text','text',1764547200.5,1,1764547200.5);
CREATE TABLE alert_outbox (
	id VARCHAR NOT NULL, 
	once VARCHAR NOT NULL, 
	opening VARCHAR, 
	receiver VARCHAR NOT NULL, 
	rule VARCHAR NOT NULL, 
	kind VARCHAR NOT NULL, 
	body JSON NOT NULL, 
	"after" VARCHAR, 
	created_at FLOAT NOT NULL, 
	attempts INTEGER NOT NULL, 
	next_attempt_at FLOAT NOT NULL, 
	sent_at FLOAT, 
	given_up_at FLOAT, 
	last_error VARCHAR, 
	PRIMARY KEY (id), 
	UNIQUE (once)
);
INSERT INTO "alert_outbox" VALUES('text','text','text','text','text','text','{"a": [1, "\u00e4"]}','text',1764547200.5,2,1764547200.5,1764547200.5,1764547200.5,'text');
CREATE TABLE approvals (
	"group" VARCHAR NOT NULL, 
	wanted_at FLOAT NOT NULL, 
	"by" VARCHAR, 
	at FLOAT, 
	PRIMARY KEY ("group"), 
	FOREIGN KEY("group") REFERENCES groups (id)
);
INSERT INTO "approvals" VALUES('g-7b7f4569',1.79609997498002338413e+09,NULL,NULL);
CREATE TABLE audit (
	number INTEGER NOT NULL, 
	at FLOAT NOT NULL, 
	who VARCHAR NOT NULL, 
	what VARCHAR NOT NULL, 
	target VARCHAR NOT NULL, 
	source VARCHAR NOT NULL, 
	outcome VARCHAR NOT NULL, 
	detail VARCHAR NOT NULL, 
	hash VARCHAR NOT NULL, 
	PRIMARY KEY (number)
);
INSERT INTO "audit" VALUES(1,1.79609997530475807192e+09,'boss','POST /v1/plans','office','127.0.0.1','done','{}','41423a3abb505cb869374f11ba14f3fe0edfb3a003328a3c16d845672521d5a9');
CREATE TABLE chunk_samples (
	number INTEGER NOT NULL, 
	observation VARCHAR NOT NULL, 
	vdisk VARCHAR NOT NULL, 
	at FLOAT NOT NULL, 
	"offset" INTEGER NOT NULL, 
	length INTEGER NOT NULL, 
	zero_bytes INTEGER NOT NULL, 
	lz4_bytes INTEGER NOT NULL, 
	zstd_bytes INTEGER NOT NULL, 
	hash VARCHAR NOT NULL, 
	PRIMARY KEY (number), 
	FOREIGN KEY(observation) REFERENCES observations (id)
);
INSERT INTO "chunk_samples" VALUES(1,'text','text',1764547200.5,2,2,2,2,2,'text');
CREATE TABLE contents (
	number INTEGER NOT NULL, 
	observation VARCHAR NOT NULL, 
	vdisk VARCHAR NOT NULL, 
	at FLOAT NOT NULL, 
	content JSON NOT NULL, 
	PRIMARY KEY (number), 
	FOREIGN KEY(observation) REFERENCES observations (id)
);
INSERT INTO "contents" VALUES(1,'text','text',1764547200.5,'{"a": [1, "\u00e4"]}');
CREATE TABLE device_uses (
	device VARCHAR NOT NULL, 
	migration VARCHAR NOT NULL, 
	use VARCHAR NOT NULL, 
	at FLOAT NOT NULL, 
	PRIMARY KEY (device, migration)
);
INSERT INTO "device_uses" VALUES('text','text','text',1764547200.5);
CREATE TABLE devices (
	id VARCHAR NOT NULL, 
	label VARCHAR NOT NULL, 
	recipients JSON NOT NULL, 
	created_at FLOAT NOT NULL, 
	site VARCHAR, 
	path VARCHAR, 
	seen_at FLOAT, 
	wiped BOOLEAN NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "devices" VALUES('text','text','{"a": [1, "\u00e4"]}',1764547200.5,'text','text',1764547200.5,1);
CREATE TABLE dirty_samples (
	number INTEGER NOT NULL, 
	observation VARCHAR NOT NULL, 
	vdisk VARCHAR NOT NULL, 
	at FLOAT NOT NULL, 
	window FLOAT NOT NULL, 
	bytes INTEGER NOT NULL, 
	PRIMARY KEY (number), 
	FOREIGN KEY(observation) REFERENCES observations (id)
);
INSERT INTO "dirty_samples" VALUES(1,'text','text',1764547200.5,1764547200.5,2);
CREATE TABLE events (
	number INTEGER NOT NULL, 
	migration VARCHAR NOT NULL, 
	at FLOAT NOT NULL, 
	kind VARCHAR NOT NULL, 
	text VARCHAR NOT NULL, 
	PRIMARY KEY (number), 
	FOREIGN KEY(migration) REFERENCES migrations (id)
);
INSERT INTO "events" VALUES(1,'m-75bcb20b',1.79609997496563744551e+09,'state','planned');
INSERT INTO "events" VALUES(2,'m-dbec156e',1.79609997497051310537e+09,'state','planned');
INSERT INTO "events" VALUES(3,'m-3e884e3c',1.79609997497267436981e+09,'state','planned');
CREATE TABLE forecasts (
	migration VARCHAR NOT NULL, 
	at FLOAT NOT NULL, 
	raw JSON NOT NULL, 
	shown JSON NOT NULL, 
	PRIMARY KEY (migration)
);
INSERT INTO "forecasts" VALUES('text',1764547200.5,'{"a": [1, "\u00e4"]}','{"a": [1, "\u00e4"]}');
CREATE TABLE groups (
	id VARCHAR NOT NULL, 
	name VARCHAR NOT NULL, 
	"plan" VARCHAR NOT NULL, 
	phase VARCHAR NOT NULL, 
	attempt INTEGER NOT NULL, 
	reason VARCHAR, 
	created_at FLOAT NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "groups" VALUES('g-7b7f4569','pair','office','gathering',0,NULL,1.79609997497825026515e+09);
CREATE TABLE io_samples (
	number INTEGER NOT NULL, 
	observation VARCHAR NOT NULL, 
	vdisk VARCHAR NOT NULL, 
	at FLOAT NOT NULL, 
	read_bytes INTEGER NOT NULL, 
	write_bytes INTEGER NOT NULL, 
	read_requests INTEGER NOT NULL, 
	write_requests INTEGER NOT NULL, 
	read_seconds FLOAT NOT NULL, 
	write_seconds FLOAT NOT NULL, 
	PRIMARY KEY (number), 
	FOREIGN KEY(observation) REFERENCES observations (id)
);
INSERT INTO "io_samples" VALUES(1,'text','text',1764547200.5,2,2,2,2,1764547200.5,1764547200.5);
CREATE TABLE link_observations (
	number INTEGER NOT NULL, 
	source VARCHAR NOT NULL, 
	destination VARCHAR NOT NULL, 
	at FLOAT NOT NULL, 
	observation JSON NOT NULL, 
	PRIMARY KEY (number)
);
INSERT INTO "link_observations" VALUES(1,'text','text',1764547200.5,'{"a": [1, "\u00e4"]}');
CREATE TABLE log_in_attempts (
	"key" VARCHAR NOT NULL, 
	failures INTEGER NOT NULL, 
	at FLOAT NOT NULL, 
	PRIMARY KEY ("key")
);
INSERT INTO "log_in_attempts" VALUES('text',2,1764547200.5);
CREATE TABLE members (
	migration VARCHAR NOT NULL, 
	"group" VARCHAR NOT NULL, 
	vm VARCHAR NOT NULL, 
	turn INTEGER NOT NULL, 
	delay FLOAT NOT NULL, 
	mark INTEGER NOT NULL, 
	marked_at FLOAT NOT NULL, 
	PRIMARY KEY (migration), 
	FOREIGN KEY(migration) REFERENCES migrations (id), 
	FOREIGN KEY("group") REFERENCES groups (id)
);
INSERT INTO "members" VALUES('m-3e884e3c','g-7b7f4569','vm-2',0,0.0,0,0.0);
CREATE TABLE migrations (
	id VARCHAR NOT NULL, 
	vm VARCHAR NOT NULL, 
	state VARCHAR NOT NULL, 
	reason VARCHAR, 
	remedy VARCHAR, 
	spec JSON NOT NULL, 
	facts JSON NOT NULL, 
	created_at FLOAT NOT NULL, 
	updated_at FLOAT NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "migrations" VALUES('m-75bcb20b','vm-0','planned',NULL,NULL,'{"vm": "vm-0", "source": "qemu:///a?socket=/nowhere/a", "destination": "qemu:///b?socket=/nowhere/b", "networks": {}, "pools": {}, "formats": {}, "cutover": "auto", "max_downtime": 30.0, "target_time": null, "shutdown_timeout": 120.0, "bandwidth": null, "max_latency": {"share": null, "seconds": null}, "write_backpressure": false, "write_floor": 1048576, "on_read_error": "stop", "connections": 8, "compression": "auto", "destination_address": null, "devices": [], "rest_by_network": false}','{"uuid": "uuid-0", "vdisks": [], "token": 0, "epoch": 0, "epochs_done": 0, "captured": false, "compare": false, "domain_xml": "", "autostart": false, "io_tune": {}, "address": null, "cutover": null, "certificate": null, "unreadable": {}, "timings": {"begun_at": null, "replicating_at": null, "copied_at": null, "compared_at": null, "content_bytes": 0, "wire_bytes": 0, "looks": 0, "unhindered_looks": 0, "memory": 0}, "sent_bytes": 0, "device_paths": {}}',1.79609997496433281896e+09,1.79609997496433353419e+09);
INSERT INTO "migrations" VALUES('m-dbec156e','vm-1','planned',NULL,NULL,'{"vm": "vm-1", "source": "qemu:///a?socket=/nowhere/a", "destination": "qemu:///b?socket=/nowhere/b", "networks": {}, "pools": {}, "formats": {}, "cutover": "auto", "max_downtime": 30.0, "target_time": null, "shutdown_timeout": 120.0, "bandwidth": null, "max_latency": {"share": null, "seconds": null}, "write_backpressure": false, "write_floor": 1048576, "on_read_error": "stop", "connections": 8, "compression": "auto", "destination_address": null, "devices": [], "rest_by_network": false}','{"uuid": "uuid-1", "vdisks": [], "token": 0, "epoch": 1, "epochs_done": 0, "captured": false, "compare": false, "domain_xml": "", "autostart": false, "io_tune": {}, "address": null, "cutover": null, "certificate": null, "unreadable": {}, "timings": {"begun_at": null, "replicating_at": null, "copied_at": null, "compared_at": null, "content_bytes": 0, "wire_bytes": 0, "looks": 0, "unhindered_looks": 0, "memory": 0}, "sent_bytes": 0, "device_paths": {}}',1.79609997496994805337e+09,1.79609998263430786129e+09);
INSERT INTO "migrations" VALUES('m-3e884e3c','vm-2','planned',NULL,NULL,'{"vm": "vm-2", "source": "qemu:///a?socket=/nowhere/a", "destination": "qemu:///b?socket=/nowhere/b", "networks": {}, "pools": {}, "formats": {}, "cutover": "auto", "max_downtime": 30.0, "target_time": null, "shutdown_timeout": 120.0, "bandwidth": null, "max_latency": {"share": null, "seconds": null}, "write_backpressure": false, "write_floor": 1048576, "on_read_error": "stop", "connections": 8, "compression": "auto", "destination_address": null, "devices": [], "rest_by_network": false}','{"uuid": "uuid-2", "vdisks": [], "token": 0, "epoch": 0, "epochs_done": 0, "captured": false, "compare": false, "domain_xml": "", "autostart": false, "io_tune": {}, "address": null, "cutover": null, "certificate": null, "unreadable": {}, "timings": {"begun_at": null, "replicating_at": null, "copied_at": null, "compared_at": null, "content_bytes": 0, "wire_bytes": 0, "looks": 0, "unhindered_looks": 0, "memory": 0}, "sent_bytes": 0, "device_paths": {}}',1.79609997497214341159e+09,1.79609997497214388846e+09);
CREATE TABLE observations (
	id VARCHAR NOT NULL, 
	vm VARCHAR NOT NULL, 
	uuid VARCHAR NOT NULL, 
	site VARCHAR NOT NULL, 
	began_at FLOAT NOT NULL, 
	ended_at FLOAT, 
	ended_because VARCHAR NOT NULL, 
	memory INTEGER NOT NULL, 
	resident INTEGER, 
	sizes JSON NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "observations" VALUES('text','text','text','text',1764547200.5,1764547200.5,'text',2,2,'{"a": [1, "\u00e4"]}');
CREATE TABLE pauses (
	migration VARCHAR NOT NULL, 
	at FLOAT NOT NULL, 
	PRIMARY KEY (migration), 
	FOREIGN KEY(migration) REFERENCES migrations (id)
);
INSERT INTO "pauses" VALUES('m-3e884e3c',1764547200.5);
CREATE TABLE plans (
	name VARCHAR NOT NULL, 
	version INTEGER NOT NULL, 
	text TEXT NOT NULL, 
	"by" VARCHAR NOT NULL, 
	at FLOAT NOT NULL, 
	PRIMARY KEY (name, version)
);
INSERT INTO "plans" VALUES('office',1,'version: 1
plan: office
from: alpha
to: alpha
vms: [web]
','boss',1.79609997496198892596e+09);
CREATE TABLE progress (
	migration VARCHAR NOT NULL, 
	at FLOAT NOT NULL, 
	body JSON NOT NULL, 
	PRIMARY KEY (migration), 
	FOREIGN KEY(migration) REFERENCES migrations (id)
);
INSERT INTO "progress" VALUES('m-75bcb20b',1.79609997498384571078e+09,'{"at": 1796099974.9838457, "vm": "vm-0", "sent": 7}');
CREATE TABLE runs (
	id VARCHAR NOT NULL, 
	kind VARCHAR NOT NULL, 
	target JSON NOT NULL, 
	name VARCHAR NOT NULL, 
	state VARCHAR NOT NULL, 
	reason VARCHAR, 
	remedy VARCHAR, 
	migrations JSON NOT NULL, 
	"by" VARCHAR NOT NULL, 
	created_at FLOAT NOT NULL, 
	updated_at FLOAT NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "runs" VALUES('r-0','migration','{"migration": "m-75bcb20b"}','m-75bcb20b','running',NULL,NULL,'["m-75bcb20b"]','boss',1.79609997530840182302e+09,1.79609998082341241836e+09);
INSERT INTO "runs" VALUES('r-1','migration','{"migration": "m-dbec156e"}','m-dbec156e','running',NULL,NULL,'["m-dbec156e"]','boss',1.79609997531330513949e+09,1.79609998082501935963e+09);
INSERT INTO "runs" VALUES('r-2','migration','{"migration": "m-3e884e3c"}','m-3e884e3c','queued',NULL,NULL,'[]','boss',1.79609997531556320193e+09,1.79609997531556320193e+09);
CREATE TABLE sessions (
	id VARCHAR NOT NULL, 
	user VARCHAR NOT NULL, 
	digest VARCHAR NOT NULL, 
	created_at FLOAT NOT NULL, 
	last_used_at FLOAT NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(user) REFERENCES users (name), 
	UNIQUE (digest)
);
INSERT INTO "sessions" VALUES('text','boss','text',1764547200.5,1764547200.5);
CREATE TABLE sites (
	name VARCHAR NOT NULL, 
	uri VARCHAR NOT NULL, 
	PRIMARY KEY (name)
);
INSERT INTO "sites" VALUES('alpha','qemu:///a?socket=/nowhere/a');
CREATE TABLE tokens (
	id VARCHAR NOT NULL, 
	user VARCHAR NOT NULL, 
	digest VARCHAR NOT NULL, 
	name VARCHAR NOT NULL, 
	role VARCHAR NOT NULL, 
	plans JSON NOT NULL, 
	sites JSON NOT NULL, 
	created_at FLOAT NOT NULL, 
	expires_at FLOAT, 
	last_used_at FLOAT, 
	PRIMARY KEY (id), 
	FOREIGN KEY(user) REFERENCES users (name), 
	UNIQUE (digest)
);
INSERT INTO "tokens" VALUES('t-982dd7bb94a3e2ee','boss','67714ea974fe11d8212099017e7127cf8b20907fbbfadb4673a855e0a7dfef5a','test','administrator','[]','[]',1.79609997529723310473e+09,NULL,NULL);
CREATE TABLE users (
	name VARCHAR NOT NULL, 
	role VARCHAR NOT NULL, 
	plans JSON NOT NULL, 
	sites JSON NOT NULL, 
	password VARCHAR NOT NULL, 
	must_change_password BOOLEAN NOT NULL, 
	disabled BOOLEAN NOT NULL, 
	created_at FLOAT NOT NULL, 
	PRIMARY KEY (name)
);
INSERT INTO "users" VALUES('boss','administrator','[]','[]','$argon2id$v=19$m=65536,t=3,p=4$wOTH62JdQiRB2n6UNmOR2g$a4lWJw8hCW9JTAsvvwd/vLBzjvApOosQQzj2VsMXe7g',0,0,1.79609997529143261907e+09);
CREATE TABLE vdisk_samples (
	number INTEGER NOT NULL, 
	observation VARCHAR NOT NULL, 
	vdisk VARCHAR NOT NULL, 
	at FLOAT NOT NULL, 
	sample JSON NOT NULL, 
	PRIMARY KEY (number), 
	FOREIGN KEY(observation) REFERENCES observations (id)
);
INSERT INTO "vdisk_samples" VALUES(1,'text','text',1764547200.5,'{"a": [1, "\u00e4"]}');
CREATE INDEX ix_groups_name ON groups (name);
CREATE INDEX link_observations_by_link ON link_observations (source, destination, at);
CREATE INDEX ix_migrations_created_at ON migrations (created_at);
CREATE INDEX ix_migrations_state ON migrations (state);
CREATE INDEX ix_observations_uuid ON observations (uuid);
CREATE INDEX ix_runs_state ON runs (state);
CREATE INDEX ix_runs_name ON runs (name);
CREATE INDEX ix_audit_at ON audit (at);
CREATE INDEX ix_audit_what ON audit (what);
CREATE INDEX ix_audit_who ON audit (who);
CREATE TRIGGER audit_update BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'the audit trail is append-only'); END;
CREATE TRIGGER audit_delete BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, 'the audit trail is append-only'); END;
CREATE TRIGGER audit_replace BEFORE INSERT ON audit WHEN EXISTS (SELECT 1 FROM audit WHERE number = NEW.number) BEGIN SELECT RAISE(ABORT, 'the audit trail is append-only'); END;
CREATE INDEX ix_alert_outbox_opening ON alert_outbox (opening);
CREATE INDEX ix_alert_outbox_next_attempt_at ON alert_outbox (next_attempt_at);
CREATE INDEX ix_members_group ON members ("group");
CREATE INDEX ix_events_migration ON events (migration);
CREATE INDEX ix_io_samples_observation ON io_samples (observation);
CREATE INDEX ix_dirty_samples_observation ON dirty_samples (observation);
CREATE INDEX ix_contents_observation ON contents (observation);
CREATE INDEX ix_vdisk_samples_observation ON vdisk_samples (observation);
CREATE INDEX ix_chunk_samples_observation ON chunk_samples (observation);
CREATE INDEX ix_sessions_user ON sessions (user);
CREATE INDEX ix_tokens_user ON tokens (user);
COMMIT;
