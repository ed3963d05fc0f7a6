/** Anything that this client throws. */
export abstract class MlflowError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = new.target.name;
  }
}

/** Something that the server would refuse, or silently spoil: it was not sent. */
export class MlflowInputError extends MlflowError {
  /**
   * @param message what was expected and what was given
   * @param field the field at fault: `metrics[3].value`
   */
  constructor(
    message: string,
    readonly field: string,
  ) {
    super(message);
  }
}

/** The server was not reached, or did not answer in time. */
export class MlflowConnectionError extends MlflowError {
  /**
   * @param code the system's: `ECONNREFUSED`, `ENOTFOUND`, `ECONNRESET`, …; `ETIMEDOUT` where our own limit ended it
   */
  constructor(
    message: string,
    readonly code: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

/** The server answered with something that MLflow does not say: a web page, a redirection, other fields. */
export class MlflowResponseError extends MlflowError {
  constructor(
    message: string,
    /** HTTP status. */
    readonly status: number,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

/** The server refused the request. */
export class MlflowApiError extends MlflowError {
  /**
   * @param code the server's: `INVALID_PARAMETER_VALUE`, `RESOURCE_DOES_NOT_EXIST`, …
   * @param status HTTP status
   */
  constructor(
    message: string,
    readonly code: string,
    readonly status: number,
  ) {
    super(message);
  }
}

/** The experiment or run does not exist (`RESOURCE_DOES_NOT_EXIST`). */
export class MlflowNotFoundError extends MlflowApiError {}

/** The name is taken, possibly by something deleted (`RESOURCE_ALREADY_EXISTS`). */
export class MlflowAlreadyExistsError extends MlflowApiError {}

/** Not logged in (401), or not allowed to (403). */
export class MlflowAuthenticationError extends MlflowApiError {}
