# SPDX-License-Identifier: Apache-2.0
"""What the services of a cloud send each other over RabbitMQ.

RabbitMQ's own tracer ("firehose") copies each message that is published to
an exchange; a queue of ours keeps the copies.
"""

import kombu

from sandbox import rabbitmq

_EXCHANGE = 'amq.rabbitmq.trace'


class Trace:
    """Keeps what is published from here on, as a context manager.

    :param cloud: a running cloud
    """

    def __init__(self, cloud):
        self._folder = cloud.folder
        self._url = cloud.option('DEFAULT', 'transport_url').replace(
            'rabbit://', 'amqp://', 1) + '/'

    def __enter__(self):
        self._connection = kombu.Connection(self._url)
        self._channel = self._connection.channel()
        self._queue = self._channel.queue_declare(
            exclusive=True, auto_delete=False).queue
        self._channel.queue_bind(self._queue, _EXCHANGE,
                                 routing_key='publish.#')
        rabbitmq.control(self._folder, 'trace_on')
        return self

    def __exit__(self, *_):
        try:
            rabbitmq.control(self._folder, 'trace_off')
        finally:
            self._connection.release()

    def bodies(self):
        """The bodies of the messages so far, each as bytes."""
        found = []
        while (message := self._channel.basic_get(
                self._queue, no_ack=True)) is not None:
            body = message.body
            found.append(body.encode() if isinstance(body, str)
                         else bytes(body))
        return found
