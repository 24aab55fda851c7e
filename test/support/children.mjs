/**
 * What tests start runs as users run it. Tap would hand on its record of modules in NODE_OPTIONS, with a thread for it in each process, which
 * doubles what a start of weir takes.
 */
import processOnSpawn from 'process-on-spawn';

processOnSpawn.removeAllListeners();
delete process.env['NODE_OPTIONS'];
