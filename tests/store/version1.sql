BEGIN TRANSACTION;
CREATE TABLE artefacts (
	run INTEGER NOT NULL, 
	name VARCHAR(64) NOT NULL, 
	sha256 VARCHAR(64) NOT NULL, 
	bytes INTEGER NOT NULL, 
	PRIMARY KEY (run, name), 
	FOREIGN KEY(run) REFERENCES runs (id) ON DELETE CASCADE
);
CREATE TABLE configs (
	"key" VARCHAR(64) NOT NULL, 
	kind VARCHAR(32) NOT NULL, 
	config JSON NOT NULL, 
	PRIMARY KEY ("key")
);
INSERT INTO "configs" VALUES('95d8164b2dceb6bb5e3bc6c311477a7d7cda9b306f0c1a2a490afde30f6767ff','prune','{"method": "woodfisher", "sparsity": 0.5, "pattern": null, "budget": "weights", "flops_power": 0.0, "num_samples": 50, "mini_batch": 1, "labels": "true", "damping": 0.001, "damping_scale": "absolute", "block_size": "layer", "update": "independent", "update_scale": 1.0, "scope": "global", "seed": 0, "solver": "auto", "gradient_precision": "full", "images": null, "batchnorm_images": 0, "stages": 1, "stage_shape": "polynomial", "fresh_samples": true, "probes": null, "model": "digits-mlp", "dataset": "digits", "data_dir": null, "weights": "shipped", "weights_hash": "", "data_hash": "", "exclude": [], "sample_indices": null, "repair_batchnorm": 0, "held_out": 100, "device": "cpu", "engine_version": 2}');
INSERT INTO "configs" VALUES('85d116dbfed7e42187c23cf959dc0d4b69b90b24dd0323786488e2401c87bb9a','prune','{"method": "magnitude", "sparsity": 0.5, "pattern": null, "budget": "weights", "flops_power": 0.0, "num_samples": 50, "mini_batch": 1, "labels": "true", "damping": 0.001, "damping_scale": "absolute", "block_size": "layer", "update": "none", "update_scale": 1.0, "scope": "global", "seed": 0, "solver": "auto", "gradient_precision": "full", "images": null, "batchnorm_images": 0, "stages": 1, "stage_shape": "polynomial", "fresh_samples": true, "probes": null, "model": "digits-mlp", "dataset": "digits", "data_dir": null, "weights": "shipped", "weights_hash": "", "data_hash": "", "exclude": [], "sample_indices": null, "repair_batchnorm": 0, "held_out": 100, "device": "cpu", "engine_version": 2}');
CREATE TABLE environments (
	"key" VARCHAR(64) NOT NULL, 
	environment JSON NOT NULL, 
	PRIMARY KEY ("key")
);
INSERT INTO "environments" VALUES('f6b94b1887f6c63fc89fb8f996c19e5bf9392992ba10adcff4d060efca91054b','{"woodfisher": "0.1.0", "cpu": "Intel(R) Xeon(R) Processor", "cpus": 2, "threads": 2, "device": "cpu", "torch": "2.15.0+cu132", "numpy": "2.4.6", "python": "3.11.7", "system": "Linux x86_64"}');
CREATE TABLE layers (
	run INTEGER NOT NULL, 
	position INTEGER NOT NULL, 
	layer TEXT NOT NULL, 
	shape TEXT NOT NULL, 
	kept INTEGER NOT NULL, 
	total INTEGER NOT NULL, 
	PRIMARY KEY (run, position), 
	FOREIGN KEY(run) REFERENCES runs (id) ON DELETE CASCADE
);
INSERT INTO "layers" VALUES(1,0,'fc1','40×64',1000,2560);
INSERT INTO "layers" VALUES(2,0,'fc1','40×64',1000,2560);
CREATE TABLE metrics (
	run INTEGER NOT NULL, 
	name VARCHAR(64) NOT NULL, 
	step INTEGER NOT NULL, 
	sparsity FLOAT, 
	value FLOAT, 
	PRIMARY KEY (run, name, step), 
	FOREIGN KEY(run) REFERENCES runs (id) ON DELETE CASCADE
);
INSERT INTO "metrics" VALUES(1,'accuracy',0,0.5,96.5);
INSERT INTO "metrics" VALUES(2,'accuracy',0,0.5,95.5);
CREATE TABLE runs (
	id INTEGER NOT NULL, 
	"key" VARCHAR(64) NOT NULL, 
	status VARCHAR(16) NOT NULL, 
	error TEXT, 
	origin VARCHAR(64) NOT NULL, 
	created FLOAT NOT NULL, 
	seconds FLOAT, 
	environment VARCHAR(64), 
	deleted FLOAT, 
	model VARCHAR(64) NOT NULL, 
	dataset VARCHAR(64) NOT NULL, 
	method VARCHAR(64) NOT NULL, 
	sparsity FLOAT, 
	accuracy FLOAT, 
	dense_accuracy FLOAT, 
	loss FLOAT, 
	PRIMARY KEY (id), 
	UNIQUE ("key"), 
	FOREIGN KEY("key") REFERENCES configs ("key"), 
	FOREIGN KEY(environment) REFERENCES environments ("key")
);
INSERT INTO "runs" VALUES(1,'95d8164b2dceb6bb5e3bc6c311477a7d7cda9b306f0c1a2a490afde30f6767ff','done',NULL,'test',1.79540173473695206644e+09,0.25,'f6b94b1887f6c63fc89fb8f996c19e5bf9392992ba10adcff4d060efca91054b',NULL,'digits-mlp','digits','woodfisher',0.5,96.5,97.5,0.125);
INSERT INTO "runs" VALUES(2,'85d116dbfed7e42187c23cf959dc0d4b69b90b24dd0323786488e2401c87bb9a','done',NULL,'test',1.7954017347454080582e+09,0.25,'f6b94b1887f6c63fc89fb8f996c19e5bf9392992ba10adcff4d060efca91054b',1.79540173474601364141e+09,'digits-mlp','digits','magnitude',0.5,95.5,97.5,0.125);
CREATE TABLE timings (
	run INTEGER NOT NULL, 
	phase VARCHAR(32) NOT NULL, 
	seconds FLOAT NOT NULL, 
	PRIMARY KEY (run, phase), 
	FOREIGN KEY(run) REFERENCES runs (id) ON DELETE CASCADE
);
INSERT INTO "timings" VALUES(1,'evaluate',0.25);
INSERT INTO "timings" VALUES(2,'evaluate',0.25);
CREATE TABLE woodfisher_store (
	version INTEGER NOT NULL
);
INSERT INTO "woodfisher_store" VALUES(1);
CREATE INDEX runs_by_time ON runs (created);
CREATE INDEX runs_by_method ON runs (model, method);
COMMIT;
