//! What chiron tells of itself and the platform: log set-up, metrics, exposition.
